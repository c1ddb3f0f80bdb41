package lb

// Annotations on a Service. Each is read anew at every change of the Service; what an edit of a live Service
// does is said with each.
const (
	// AnnotationPool names the pool to take addresses from. An edit moves the Service to an address of the
	// named pool; when that is refused the Service keeps what it has.
	AnnotationPool = "mooring.dev/pool"
	// AnnotationAddresses asks for addresses, comma-separated. An edit moves the Service to them; when that is
	// refused the Service keeps what it has.
	AnnotationAddresses = "mooring.dev/addresses"
	// AnnotationSharingKey lets Services of one namespace with the same key share addresses on different
	// ports.
	AnnotationSharingKey = "mooring.dev/sharing-key"
	// AnnotationNodeSelector is a label selector for the nodes that may carry the addresses, beside the pool's.
	AnnotationNodeSelector = "mooring.dev/node-selector"
	// AnnotationLBPorts asks for ports at the external load balancer of an updater pool, and has no meaning elsewhere:
	// http=8100,53/udp=8153. Each entry names a port of the Service, by its name or by number[/protocol]; without a
	// protocol it is the only one with the number, else the one for TCP. An entry without a number at the load balancer
	// limits the Service to the ports that are named. An edit moves only the ports whose wish changes; when one cannot
	// be had, the Service keeps what it has.
	AnnotationLBPorts = "mooring.dev/lb-ports"
	// AnnotationProxyTimeout and AnnotationProxyConnectTimeout set the external load balancer's timeouts.
	AnnotationProxyTimeout        = "mooring.dev/proxy-timeout"
	AnnotationProxyConnectTimeout = "mooring.dev/proxy-connect-timeout"
	// AnnotationRetain, when "true", keeps a bought address at the cloud when the Service goes. An edit is written to
	// the cloud at once, and counts also when it comes together with the deletion.
	AnnotationRetain = "mooring.dev/retain"
	// AnnotationReplacesBackend names a backend at the updater that is taken over.
	AnnotationReplacesBackend = "mooring.dev/replaces-backend"
	// AnnotationAbandon, when "true", makes a deletion forget what cannot be cleaned. It has no effect on a Service
	// that is not being deleted.
	AnnotationAbandon = "mooring.dev/abandon"
	// AnnotationPaperLBConfig is PaperLB's way to name its configuration; read as a pool name when
	// AnnotationPool is absent.
	AnnotationPaperLBConfig = "lb.paperlb.com/config-name"
)

// LabelExcludeNode keeps a Node out of load balancing, as upstream defines it
// (k8s.io/api/core/v1.LabelNodeExcludeBalancers).
const LabelExcludeNode = "node.kubernetes.io/exclude-from-external-load-balancers"

// Finalizer is on a Service with a class from before anything is done for it until nothing of it is held any more.
const Finalizer = "mooring.dev/load-balancer"

const (
	// ConditionBound is True on a Service when every address it asks for answers.
	ConditionBound = "mooring.dev/Bound"
	// ConditionDegraded is True on a Service when something asked for is not done although the Service is
	// published.
	ConditionDegraded = "mooring.dev/Degraded"
)
