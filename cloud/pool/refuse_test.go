package pool_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// Whoever does what a refusal says is served, or is told what else there is: nobody enlarges a pool for want of a family
// that it does not have.
func TestRefusalsNameAWayOutThatHelps(t *testing.T) {
	office := aPool("office", "192.0.2.0")
	six := aPool("six", "2001:db8::1")
	require46, require64 := families(lb.RequireDualStack, lb.IPv4, lb.IPv6), families(lb.RequireDualStack, lb.IPv6, lb.IPv4)
	prefer46, prefer64 := families(lb.PreferDualStack, lb.IPv4, lb.IPv6), families(lb.PreferDualStack, lb.IPv6, lb.IPv4)
	single6 := families(lb.SingleStack, lb.IPv6)
	const prefer = "add some, or set spec.ipFamilyPolicy to PreferDualStack, which takes what there is"
	for name, test := range map[string]struct {
		pools []config.Pool
		// full: every address is held already; quarantined: one is kept back; listed: another Service lists it.
		full, quarantined, listed bool
		asks                      func(*lb.Request)
		reason                    lb.Reason
		says                      string
	}{
		"both required, one not there": {
			pools: []config.Pool{office}, asks: require46, reason: lb.ReasonFamilyUnavailable, says: "pool office has no IPv6 addresses: " + prefer,
		},
		"both required, one not there and the other full": {
			pools: []config.Pool{office}, full: true, asks: require46, reason: lb.ReasonFamilyUnavailable,
			says: "pool office has no IPv6 addresses: " + prefer + "; besides, pool office: all 1 IPv4 addresses are in use; enlarge it or delete a Service",
		},
		"the same in the other order": {
			pools: []config.Pool{office}, full: true, asks: require64, reason: lb.ReasonFamilyUnavailable,
			says: "pool office has no IPv6 addresses: " + prefer + "; besides, pool office: all 1 IPv4 addresses are in use; enlarge it or delete a Service",
		},
		"both required, of a pool by name": {
			pools: []config.Pool{office, six}, full: true, asks: func(r *lb.Request) { require46(r); inPool("office")(r) }, reason: lb.ReasonFamilyUnavailable,
			says: "pool office has no IPv6 addresses: " + prefer + "; besides, pool office: all 1 IPv4 addresses are in use; enlarge it or delete a Service",
		},
		"both required, both full": {
			pools: []config.Pool{office, six}, full: true, asks: require64, reason: lb.ReasonPoolExhausted,
			says: "pool six: all 1 IPv6 addresses are in use; enlarge it or delete a Service",
		},
		"both preferred, one not there and the other full": {
			pools: []config.Pool{office}, full: true, asks: prefer46, reason: lb.ReasonPoolExhausted,
			says: "pool office: all 1 IPv4 addresses are in use; enlarge it or delete a Service",
		},
		"both preferred, the first not there and the other full": {
			pools: []config.Pool{office}, full: true, asks: prefer64, reason: lb.ReasonPoolExhausted,
			says: "pool office: all 1 IPv4 addresses are in use; enlarge it or delete a Service",
		},
		"one family that is not there": {
			pools: []config.Pool{office}, asks: single6, reason: lb.ReasonFamilyUnavailable, says: "pool office has no IPv6 addresses: " + prefer,
		},
		"one family, of a pool that has none at all": {
			pools: []config.Pool{{Name: "empty"}}, asks: func(r *lb.Request) { single6(r); inPool("empty")(r) }, reason: lb.ReasonFamilyUnavailable, says: "pool empty has no IPv6 addresses: add some",
		},
		"what is left is quarantined": {
			pools: []config.Pool{office}, quarantined: true, asks: inPool("office"), reason: lb.ReasonPoolExhausted,
			says: "pool office: of 1 IPv4 addresses 0 are in use and 1 quarantined or withheld; enlarge it or wait until one is given out again",
		},
		"some is quarantined": {
			pools: []config.Pool{aPool("office", "192.0.2.0/31")}, full: true, quarantined: true, asks: inPool("office"), reason: lb.ReasonPoolExhausted,
			says: "pool office: of 2 IPv4 addresses 1 are in use and 1 quarantined or withheld; enlarge it, delete a Service or wait until one is given out again",
		},
		"what is left is listed in spec.externalIPs": {
			pools: []config.Pool{office}, listed: true, asks: inPool("office"), reason: lb.ReasonPoolExhausted,
			says: "pool office: of 1 IPv4 addresses 0 are in use and 1 listed in spec.externalIPs by Services that do not have them; " +
				"enlarge it or take an address out of spec.externalIPs",
		},
		"pools of other namespaces alone": {
			pools: []config.Pool{aPool("theirs", "192.0.2.0", only("mail"))}, asks: func(*lb.Request) {}, reason: lb.ReasonNoPool,
			says: `no pool serves this Service unasked: pool theirs does not serve namespace "default" (allowedNamespaces); add a pool that does, or change one of these`,
		},
		"a pool that has to be named": {
			pools: []config.Pool{aPool("theirs", "192.0.2.0", only("mail")), aPool("kept", "192.0.2.1", named)}, asks: func(*lb.Request) {}, reason: lb.ReasonNoPool,
			says: `no pool serves this Service unasked: pool kept has autoAssign: false and must be named; pool theirs does not serve namespace "default" ` +
				"(allowedNamespaces); name one that must be named by annotation mooring.dev/pool, or add a pool",
		},
		"an address of the other family": {
			pools: []config.Pool{office, six}, asks: askFor("2001:db8::1"), reason: lb.ReasonFamilyMismatch,
			says: "annotation mooring.dev/addresses asks for 2001:db8::1, which is IPv6, but spec.ipFamilies of the Service is IPv4: " +
				"ask for another address, or set spec.ipFamilyPolicy to PreferDualStack",
		},
		"an address of a family that the cluster lacks": {
			pools: []config.Pool{office, six}, reason: lb.ReasonFamilyMismatch,
			asks: func(r *lb.Request) { families(lb.PreferDualStack, lb.IPv4)(r); askFor("2001:db8::1")(r) },
			says: "annotation mooring.dev/addresses asks for 2001:db8::1, which is IPv6, but spec.ipFamilies of the Service is IPv4: " +
				"ask for another address",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := pool.New(test.pools)
			if test.quarantined {
				a.Quarantine(addr("192.0.2.0"))
			}
			if test.listed {
				a.SetExposed(lb.Ref{Namespace: "other", Name: "x"}, addrs("192.0.2.0"))
			}
			if test.full {
				for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
					a.Assign(web("default/"+string(f), families(lb.SingleStack, f)))
				}
			}
			got := a.Assign(web("default/s", test.asks))
			require.NotNil(t, got.Refusal)
			assert.Empty(t, got.Want)
			assert.Equal(t, lb.Refuse(test.reason, "%s", test.says), got.Refusal)

			// Whoever asks why gets the same advice of a pool that has nothing to give.
			if test.full && len(test.pools) == 1 {
				assert.Equal(t, got.Refusal, a.Consider(web("default/s", test.asks)).Pools[0].Refusal)
			}
		})
	}
}
