package cloud

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Event reasons beside those of lb.Reason. Their comments are the reference, as those of lb.Reason are.
const (
	// eventMoved says that an address goes from one node to another; the message says why.
	//
	// What to do: nothing.
	//
	//reference:event Service Normal
	eventMoved = "AddressMoved"

	// eventConfigLoaded says that the changed cloud-config is in force.
	//
	// What to do: nothing, unless the message asks for a restart.
	//
	//reference:event Pod Normal
	eventConfigLoaded = "CloudConfigLoaded"

	// eventConfigRefused says that the changed cloud-config is not used; the last good one stays in force.
	//
	// What to do: correct every mistake that the message lists; `kubectl mooring validate` lists the same.
	//
	//reference:event Pod Warning
	eventConfigRefused = "CloudConfigRefused"

	// eventTokenAccepted says that a changed token is in use. The old one may be deleted.
	//
	// What to do: nothing.
	//
	//reference:event Pod Normal
	eventTokenAccepted = "TokenAccepted"

	// eventTokenRefused says that a changed token is not used; the last good one stays in use.
	//
	// What to do: write a token of the right project into the file. A changed file is read at once, this one again
	// every 10 minutes.
	//
	//reference:event Pod Warning
	eventTokenRefused = "TokenRefused"

	// eventNodeLost says that the probe has given the node up: its addresses move.
	//
	// What to do: look after the machine; see [a node dies](../guides/failover.md#a-node-dies).
	//
	//reference:event Node Warning
	eventNodeLost = "NodeLost"

	// eventFalseLoss says that the node was taken for lost, and lives.
	//
	// What to do: look at the network between the controller and the health port of the agent; see
	// [false losses](../guides/failover.md#false-losses).
	//
	//reference:event Node Warning
	eventFalseLoss = "FalseLoss"
)

func uidOf(ref lb.Ref) types.UID { return types.UID(ref.UID) }
