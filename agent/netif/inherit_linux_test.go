package netif

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What PlenusLB labelled is told from what is ours and from what is the host's, and becomes ours where it stands, by the
// protocol or, on a kernel that does not store it, by the label.
func TestTakeOver(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, `ip link set lo up; ip link add pl0 type bridge; ip link set pl0 up
for i in 10 11; do ip address add 10.0.0.$i/32 dev pl0 scope link label pl0:pllb; done
ip address add 10.0.0.12/24 dev pl0 label pl0:pllb; ip address add 10.0.0.13/32 dev pl0 label pl0:web`)
	host := open(t)
	places := func(addresses ...string) map[Place]struct{} {
		m := map[Place]struct{}{}
		for _, ip := range ips(addresses...) {
			m[Place{"pl0", ip}] = struct{}{}
		}
		return m
	}
	s := state(t, host)
	assert.Empty(t, s.Bound)
	assert.Equal(t, places("10.0.0.10", "10.0.0.11"), s.Inherited)

	step := Step{Kind: TakeOver, Interface: "pl0", Addresses: ips("10.0.0.10")}
	assert.Empty(t, host.Do(t.Context(), step))
	assert.Empty(t, host.Do(t.Context(), step), "again")
	link, err := host.conn.link("pl0")
	require.NoError(t, err)
	assert.Empty(t, host.conn.relabel(link, ips("10.0.0.11")))
	s = state(t, host)
	assert.Equal(t, places("10.0.0.10", "10.0.0.11"), s.Bound)
	assert.Empty(t, s.Inherited)
	assert.Contains(t, sh(t, "ip -o address show dev pl0"), "10.0.0.11/32 scope host deprecated pl0:moor")

	assert.Empty(t, host.Do(t.Context(), Step{Kind: Unbind, Interface: "pl0", Addresses: ips("10.0.0.10", "10.0.0.11")}))
	assert.Empty(t, state(t, host).Bound)
}
