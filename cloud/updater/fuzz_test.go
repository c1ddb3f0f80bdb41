package updater_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// strict is the whole of the protocol: a field more is a mistake.
type strict struct {
	BackendName                string               `json:"backendName"`
	LBPort                     int                  `json:"lbPort"`
	LBProtocol                 string               `json:"lbProtocol"`
	UpstreamServers            []updatertest.Target `json:"upstreamServers"`
	ProxyTimeoutSeconds        int                  `json:"proxyTimeoutSeconds"`
	ProxyConnectTimeoutSeconds int                  `json:"proxyConnectTimeoutSeconds"`
}

// FuzzClientBreaksNoFile: whatever a caller says, it is refused here, or nginx takes it.
func FuzzClientBreaksNoFile(f *testing.F) {
	f.Add("prod", "1a2b3c4d-5e6f", uint16(8100), "TCP", []byte{192, 0, 2, 3, 0x75, 0x31}, int64(600), int64(0), "")
	f.Add("a b", "", uint16(0), "UDP", []byte{}, int64(-1), int64(1<<40), "shop_web")
	f.Add("", "};", uint16(53), "SCTP", []byte{0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 1}, int64(1), int64(1), "../x")
	f.Add("\u00fc", "1", uint16(65535), "UDP", slices.Repeat([]byte{0xfe, 0x80}, 20), int64(2592000), int64(2592001), "a;b")
	f.Fuzz(func(t *testing.T, cluster, uid string, port uint16, protocol string, bytes []byte, timeout, connect int64, replaces string) {
		s := updatertest.New(updatertest.Options{})
		c := newClient(t, updater.ClientOptions{Transport: s.Transport()})
		k := updater.Key{Port: port, Protocol: lb.Protocol(protocol)}
		b := updater.Backend{ProxyTimeout: time.Duration(timeout) * time.Second, ConnectTimeout: time.Duration(connect) * time.Second / 2, Replaces: replaces}
		for len(bytes) >= 6 {
			addr, size := netip.AddrFrom4([4]byte(bytes)), 4
			if len(bytes) >= 18 && bytes[0]%2 == 0 {
				addr, size = netip.AddrFrom16([16]byte(bytes)), 16
				if bytes[1] == 0x80 {
					addr = addr.WithZone("eth0")
				}
			}
			b.Targets = append(b.Targets, netip.AddrPortFrom(addr, uint16(bytes[size])<<8|uint16(bytes[size+1])))
			bytes = bytes[size+2:]
		}
		given := slices.Clone(b.Targets)
		if err := c.Set(t.Context(), updater.Name(updater.Prefix(cluster, uid), k), k, b); err != nil {
			require.Equal(t, updater.Invalid, updater.KindOf(err), "%v", err)
			require.Empty(t, s.Calls())
			return
		}
		assert.Equal(t, given, b.Targets, "the caller's list is its own")
		calls := s.Calls()
		require.Len(t, calls, 1)
		var said strict
		decoder := json.NewDecoder(strings.NewReader(calls[0].Body))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&said))
		assert.Equal(t, int(port), said.LBPort)
		assert.Equal(t, strings.ToLower(protocol), said.LBProtocol)
		assert.GreaterOrEqual(t, said.ProxyTimeoutSeconds, 0)
		assert.GreaterOrEqual(t, said.ProxyConnectTimeoutSeconds, 0)
		files, err := s.Files()
		require.NoError(t, err)
		require.Len(t, files, 1)
		require.NoError(t, updatertest.Check(files))
	})
}
