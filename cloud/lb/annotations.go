package lb

// Annotations on a Service. Each is read anew at every change of the Service; what an edit of a live Service
// does is said with each. A value that does not parse refuses the Service with InvalidRequest: one that is not published
// yet is not served, one that is keeps what it has.
//
// The comments are the reference of the annotations: hack/reference makes docs/reference/annotations.md of them. The lines
// reference:value, reference:example, reference:edit and reference:wrong say what may be written, how it looks, what an
// edit of a live Service does, and what a value does that is wrong.
const (
	// AnnotationPool names the pool that the Service is served from.
	//
	//reference:value the name of a pool of the cloud-config
	//reference:example mooring.dev/pool: office
	//reference:edit The Service moves to an address, or to ports, of the named pool; it has both until the new one is published. When that is refused, it keeps what it has.
	//reference:wrong `PoolNotFound`: there is no such pool. `NotAllowed`: it does not serve this namespace, this Service or its class. Nothing else is served instead.
	AnnotationPool = "mooring.dev/pool"
	// AnnotationAddresses asks for just these addresses, all of them. It comes before `spec.externalIPs` and
	// `spec.loadBalancerIP`.
	//
	//reference:value IP addresses, separated by commas
	//reference:example mooring.dev/addresses: 192.0.2.12,2001:db8:1::12
	//reference:edit The Service moves to the addresses. When that is refused, it keeps what it has.
	//reference:wrong `InvalidRequest`: not an IP address. `AddressNotInPool`: in no pool, or not in the pool that is asked for. `AddressInUse`: another Service, or another machine, has it. `FamilyMismatch`: the Service has no such family.
	AnnotationAddresses = "mooring.dev/addresses"
	// AnnotationSharingKey lets Services of one namespace with the same key share addresses: on different ports or
	// protocols, at most 100 Services on one address. With `externalTrafficPolicy: Local` on one of them their
	// `spec.selector` has to be equal. At an external load balancer it has no meaning.
	//
	//reference:value any text
	//reference:example mooring.dev/sharing-key: web
	//reference:edit A Service that shares no longer leaves the address to the older one, and gets another.
	//reference:wrong `SharingConflict`: the Services with this key have a port in common, or run on different pods with policy Local.
	AnnotationSharingKey = "mooring.dev/sharing-key"
	// AnnotationNodeSelector narrows, beside the `nodeSelector` of the pool, which nodes may carry the addresses or stand
	// behind the ports of an external load balancer.
	//
	//reference:value a label selector, as `kubectl get -l` takes it
	//reference:example mooring.dev/node-selector: edge=true,zone in (a, b)
	//reference:edit Addresses on nodes that do not match any more move as planned, targets are sent anew. Without a node that matches, they stay.
	//reference:wrong `InvalidRequest`: not a label selector. `NoEligibleNode`: no node matches.
	AnnotationNodeSelector = "mooring.dev/node-selector"
	// AnnotationLBPorts asks for ports at the external load balancer of an `updater` pool, and has no meaning elsewhere.
	// Each entry names a port of the Service, by its name or by `number[/protocol]`; without a protocol it is the only one
	// with the number, else the one for TCP. An entry without a number at the load balancer limits the Service to the
	// ports that are named.
	//
	//reference:value entries `port` or `port=number`, separated by commas
	//reference:example mooring.dev/lb-ports: http=8100,53/udp=8153
	//reference:edit Only the ports whose wish changes move. When one cannot be had, the Service keeps what it has.
	//reference:wrong `InvalidRequest`: the Service has no such port, or the number is none. `PortNotInPool`: outside of the `portRange`. `PortInUse`: another Service has it.
	AnnotationLBPorts = "mooring.dev/lb-ports"
	// AnnotationProxyTimeout is the time after which the external load balancer of an `updater` pool ends a connection on
	// which nothing passes, and forgets a UDP client. It counts for all ports of the Service.
	//
	//reference:value whole seconds with a unit, from `1s` to `720h`
	//reference:example mooring.dev/proxy-timeout: 1h
	//reference:edit The backends are sent again at once.
	//reference:wrong `InvalidRequest`: not a duration, or not in whole seconds, or out of range.
	AnnotationProxyTimeout = "mooring.dev/proxy-timeout"
	// AnnotationProxyConnectTimeout is the time that the external load balancer of an `updater` pool waits for a node to
	// take a connection, before it tries the next one.
	//
	//reference:value whole seconds with a unit, from `1s` to `720h`
	//reference:example mooring.dev/proxy-connect-timeout: 5s
	//reference:edit The backends are sent again at once.
	//reference:wrong `InvalidRequest`: not a duration, or not in whole seconds, or out of range.
	AnnotationProxyConnectTimeout = "mooring.dev/proxy-connect-timeout"
	// AnnotationRetain keeps a Floating IP that was bought for the Service at Hetzner when the Service goes.
	//
	//reference:value `"true"`, in quotes
	//reference:example mooring.dev/retain: "true"
	//reference:edit Written to the labels of the Floating IP at once. It counts also when it comes together with the deletion.
	//reference:wrong Every other value is as none: the pool's `reclaimPolicy` decides.
	AnnotationRetain = "mooring.dev/retain"
	// AnnotationReplacesBackend names a backend of somebody else at the updater, such as PaperLB's, that the one for the
	// first served port of the Service replaces. It has to begin with the Service's own namespace and `_`.
	//
	//reference:value the name of a backend: letters, digits, `_` and `-`
	//reference:example mooring.dev/replaces-backend: default_web
	//reference:edit The backend that is named now is replaced, at once.
	//reference:wrong `InvalidRequest`: not such a name, or that of another namespace.
	AnnotationReplacesBackend = "mooring.dev/replaces-backend"
	// AnnotationAbandon lets a Service that is being deleted go without cleaning up outside of the cluster what cannot be
	// cleaned. The event `Abandoned` lists what is left behind. It has no effect on a Service that is not being deleted.
	//
	//reference:value `"true"`, in quotes
	//reference:example mooring.dev/abandon: "true"
	//reference:edit At once, when the Service is being deleted.
	//reference:wrong Every other value is as none.
	AnnotationAbandon = "mooring.dev/abandon"
	// AnnotationPaperLBConfig is PaperLB's way to name its configuration. It is read as the name of a pool when there is
	// no AnnotationPool.
	//
	//reference:value the name of a pool of the cloud-config
	//reference:example lb.paperlb.com/config-name: default-lb-config
	//reference:edit As with AnnotationPool.
	//reference:wrong As with AnnotationPool.
	AnnotationPaperLBConfig = "lb.paperlb.com/config-name"
)

// LabelExcludeNode keeps a Node out of load balancing, as upstream defines it
// (k8s.io/api/core/v1.LabelNodeExcludeBalancers).
const LabelExcludeNode = "node.kubernetes.io/exclude-from-external-load-balancers"

// Finalizer stands on a Service with a class from before anything is done for it until nothing of it is held any more.
//
//reference:mark finalizer on Services
const Finalizer = "mooring.dev/load-balancer"

const (
	// ConditionBound is True when every address, or every port, that the Service has answers. Its message says where, as
	// in `192.0.2.10 on n2 (pool office)` or `edge 192.0.2.1:8100/TCP -> 80, 3 targets`. It is False while one does not
	// answer, or there is none; the reason says what is waited for, or why it is refused.
	//
	//reference:condition Service
	ConditionBound = "mooring.dev/Bound"
	// ConditionDegraded is True when something that the Service asks for is not done, or something is wrong, although it
	// has an address or a port. It is absent otherwise.
	//
	//reference:condition Service
	ConditionDegraded = "mooring.dev/Degraded"
)
