package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Whoever asks why is told by the rules that the ledger itself goes by, and asking changes nothing.
func TestJudgeNodes(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, holder := w.served(uid)
	other := map[string]string{"n1": "n2", "n2": "n1"}[holder]
	lease := lb.Lease{Addr: addr, Pool: "office"}
	request := *w.services[uid]

	assert.ElementsMatch(t, []Judgement{{Node: holder, Serves: true}, {Node: other}}, w.ledger.JudgeNodes(request.Request, lease, w.now))

	// A Service that is not known yet, and an address that nobody has.
	selector, err := labels.Parse("edge=never")
	require.NoError(t, err)
	stranger := lb.Request{Ref: lb.Ref{Namespace: "default", Name: "new", UID: "new"}, NodeSelector: selector}
	why := `not matching node selector "edge=never"`
	assert.Equal(t, []Judgement{{Node: "n1", Why: why}, {Node: "n2", Why: why}},
		w.ledger.JudgeNodes(stranger, lb.Lease{Addr: addr.Next(), Pool: "office"}, w.now))

	got, still := w.served(uid)
	assert.Equal(t, addr, got)
	assert.Equal(t, holder, still)
	assert.Equal(t, []Holding{{request.Ref, []lb.Lease{lease}, nil}}, w.ledger.Holdings())
}
