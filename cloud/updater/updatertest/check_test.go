package updatertest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refusals are files that nginx -t refuses too, which TestNginxRefusesTheSame shows.
var refusals = map[string]map[string]string{
	"no targets":          {"a": render("a", "8100", "")},
	"IPv6 unbracketed":    {"a": render("a", "8100", "server 2001:db8::1:30001;")},
	"port 0":              {"a": render("a", "0", "server 192.0.2.3:1;")},
	"port 70000":          {"a": render("a", "70000", "server 192.0.2.3:1;")},
	"target port 0":       {"a": render("a", "8100", "server 192.0.2.3:0;")},
	"unresolvable target": {"a": render("a", "8100", "server nowhere.invalid:1;")},
	"one port twice":      {"a": render("a", "8100", "server 192.0.2.3:1;"), "b": render("b", "8100", "server 192.0.2.3:1;")},
	"half a file":         {"a": "upstream a {\n server 192.0.2.3:1;\n"},
	"a bad protocol":      {"a": render("a", "8100 sctp", "server 192.0.2.3:1;")},
}

var accepted = map[string]string{
	"a":         render("a", "127.0.0.1:8100", "server 192.0.2.3:1; server [2001:db8::1]:1;"),
	"b":         render("b", "127.0.0.1:8100 udp", "server 192.0.2.3:1;"),
	"truncated": "",
}

func render(name, listen, servers string) string {
	return "upstream " + name + " { " + servers + " }\nserver {\n    listen " + listen + ";\n    proxy_pass " + name + ";\n    proxy_timeout 5s;\n    proxy_connect_timeout 2s;\n}\n"
}

func TestCheckRefusesWhatNginxRefuses(t *testing.T) {
	for what, files := range refusals {
		assert.Error(t, Check(files), what)
	}
	require.NoError(t, Check(accepted))
}

func TestRenderedFilesAreAccepted(t *testing.T) {
	for _, listen := range []string{"", "127.0.0.1"} {
		s := New(Options{Listen: listen})
		content := s.render(Request{BackendName: "a", LBPort: 53, LBProtocol: "UDP", UpstreamServers: []Target{{"192.0.2.3", 1}, {"[2001:db8::1]", 2}}})
		require.NoError(t, Check(map[string]string{"a": content}))
		assert.Contains(t, content, "proxy_timeout 5s;")
	}
}
