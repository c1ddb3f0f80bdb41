package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These are the moments at which a controller came that found half of the work done.

// TestBoundIsNotRouted: what is bound and was never published is not published before the account shows that it is
// routed.
func TestBoundIsNotRouted(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.cloud.fail = func(j Job) *Fault {
		if j.Op == OpAssign {
			return &Fault{Kind: FaultTemporary, Message: "down"}
		}
		return nil
	}
	uid := w.create("web")
	w.settle()
	require.Len(t, w.holders(w.cloud.of(uid)[0].Addr()), 1)
	w.restart()
	w.sync(uid)
	assert.Empty(t, w.services[uid].published)
	w.cloud.fail = nil
	w.goOn()
	w.served(uid)
}
