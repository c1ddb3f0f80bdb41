package cloud

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Event reasons beside those of lb.Reason, which are used for refusals.
const (
	// eventMoved: an address goes from one node to another.
	eventMoved = "AddressMoved"
	// eventConfigRefused and eventConfigLoaded are about the controller's Pod: the cloud-config changed.
	eventConfigRefused = "CloudConfigRefused"
	eventConfigLoaded  = "CloudConfigLoaded"
	// eventTokenAccepted and eventTokenRefused are about the controller's Pod: a token file changed.
	eventTokenAccepted = "TokenAccepted"
	eventTokenRefused  = "TokenRefused"
	// eventNodeLost and eventFalseLoss are about a Node: the probe gave it up, and was wrong with that.
	eventNodeLost  = "NodeLost"
	eventFalseLoss = "FalseLoss"
)

func uidOf(ref lb.Ref) types.UID { return types.UID(ref.UID) }
