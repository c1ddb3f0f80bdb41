package agent

// Reasons of a FailedAddress and of the condition Ready. Their comments are the reference: hack/reference makes
// docs/reference/events.md of them.
const (
	// ReasonInvalidAddress says that the entry in the object is no IP address; the API server lets none in.
	//
	// What to do: report it.
	//
	//reference:in NodeAddresses/failed
	ReasonInvalidAddress = "InvalidAddress"

	// ReasonAddressInUse says that another machine answers for the address, or it is on another interface of this host
	// and Mooring did not put it there.
	//
	// What to do: take it from that machine or interface, or exclude it from the pool.
	//
	//reference:in NodeAddresses/failed
	ReasonAddressInUse = "AddressInUse"

	// ReasonInterfaceDown says that the pool's interface is down, and Mooring did not create it.
	//
	// What to do: set it up, or name another one in `interface`.
	//
	//reference:in NodeAddresses/failed
	ReasonInterfaceDown = "InterfaceDown"

	// ReasonInterfaceFailed says that the pool's interface could not be created, set up or removed; the message has
	// the words of the kernel.
	//
	// What to do: see that the agent has the capability `NET_ADMIN`, and that the name is free.
	//
	//reference:in NodeAddresses/failed
	ReasonInterfaceFailed = "InterfaceFailed"

	// ReasonUplinkMissing says that the pool's uplink does not exist on this node.
	//
	// What to do: correct `uplink`, or leave the node out by `nodeSelector`.
	//
	//reference:in NodeAddresses/failed
	ReasonUplinkMissing = "UplinkMissing"

	// ReasonKernelSettings says that a sysctl keeps the host from answering for virtual addresses, or could not be
	// set.
	//
	// What to do: set it as the message says.
	//
	//reference:in NodeAddresses/failed NodeAddresses/Ready
	ReasonKernelSettings = "KernelSettings"

	// ReasonGuardFailed says that the nftables table of the guard could not be written, so that the address is not
	// bound.
	//
	// What to do: see that the kernel has nf_tables and the agent the capability `NET_ADMIN`; or set `guard: false`.
	//
	//reference:in NodeAddresses/failed
	ReasonGuardFailed = "GuardFailed"

	// ReasonBindFailed says that the kernel did not take the address; the message has its words.
	//
	// What to do: see the log of the agent; it goes on trying.
	//
	//reference:in NodeAddresses/failed
	ReasonBindFailed = "BindFailed"

	// ReasonUnbindFailed says that the kernel did not let go of the address; the message has its words.
	//
	// What to do: see the log of the agent; it goes on trying.
	//
	//reference:in NodeAddresses/failed
	ReasonUnbindFailed = "UnbindFailed"

	// ReasonProxyFailed says that the proxy entry by which an IPv6 address answers on the uplink could not be set or
	// removed.
	//
	// What to do: see that IPv6 is on there, and the log of the agent; it goes on trying.
	//
	//reference:in NodeAddresses/failed
	ReasonProxyFailed = "ProxyFailed"

	// ReasonReady says that virtual addresses work on this host. The message names what harms in some layouts.
	//
	// What to do: nothing; this is the reason of Ready when it is True.
	//
	//reference:in NodeAddresses/Ready
	ReasonReady = "Ready"

	// ReasonHostUnreadable says that the agent cannot read the host's network, so that it changes nothing.
	//
	// What to do: see the message and the log of the agent.
	//
	//reference:in NodeAddresses/Ready
	ReasonHostUnreadable = "HostUnreadable"

	// ReasonKubeProxyIPVS says that kube-proxy runs in IPVS mode, where every node holds every virtual IP.
	//
	// What to do: run kube-proxy in mode nftables or iptables.
	//
	//reference:in NodeAddresses/Ready
	ReasonKubeProxyIPVS = "KubeProxyIPVS"
)
