package lb

// Reason is a condition and event reason: CamelCase, stable, part of what users and their alerts depend on. One that
// comes to stand in a condition of a Service, apart from Bound, is also a Warning event there.
//
// The comments of the constants are the reference of events and conditions: hack/reference makes docs/reference/events.md
// of them, here and wherever else a constant has such lines. reference:in names the conditions that the reason stands in,
// as object/condition, and reference:event the object and the kind of an event with it.
type Reason string

// What keeps a Service from an address or a port, and what it waits for.
const (
	// ReasonBound says that every address or port of the Service is bound, announced and published.
	//
	// What to do: nothing. This is the reason of `mooring.dev/Bound` when it is True.
	//
	//reference:in Service/Bound
	ReasonBound Reason = "Bound"

	// ReasonInvalidRequest says that an annotation or a field of the Service does not parse.
	//
	// What to do: correct what the message names.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonInvalidRequest Reason = "InvalidRequest"

	// ReasonNoPool says that no pool serves the Service without being asked by name or address.
	//
	// What to do: name a pool by annotation `mooring.dev/pool`, or add one; the message says why each pool does not
	// serve it.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonNoPool Reason = "NoPool"

	// ReasonPoolNotFound says that the pool named on the Service is not in the cloud-config.
	//
	// What to do: name one that is, or add it.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonPoolNotFound Reason = "PoolNotFound"

	// ReasonPoolExhausted says that every pool that could serve the Service is in use completely, or has bought as
	// many addresses as it may.
	//
	// What to do: delete a Service, or give the pool more addresses or ports, or raise `maxAddresses`. Addresses that the
	// message counts as quarantined or withheld are given out again when what keeps them back is over.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonPoolExhausted Reason = "PoolExhausted"

	// ReasonPoolMissing says that an address or a port is held from a pool that is not in the cloud-config any more.
	//
	// What to do: put the pool back, or move the Service by annotation `mooring.dev/pool`.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonPoolMissing Reason = "PoolMissing"

	// ReasonAddressNotInPool says that an address asked for, or held, is in no pool, or not in the pool asked for.
	//
	// What to do: ask for another address, or put it into a pool.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonAddressNotInPool Reason = "AddressNotInPool"

	// ReasonAddressInUse says that an address is held by another Service, or listed in `spec.externalIPs` of one in another
	// namespace, or another machine answers for it.
	//
	// What to do: ask for another address. Have it taken off the list that the message names. Take the address from the
	// machine whose hardware address the message names, or exclude it from the pool. As an event: a Service that asked
	// for no address in particular gets another one.
	//
	//reference:in Service/Bound Service/Degraded
	//reference:event Service Warning
	ReasonAddressInUse Reason = "AddressInUse"

	// ReasonAddressQuarantined says that an address asked for may still be bound on a node that does not answer.
	//
	// What to do: wait for the node, or delete the Node when the machine is gone.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonAddressQuarantined Reason = "AddressQuarantined"

	// ReasonPortNotInPool says that a port asked for, or held, is not in the range of the pool.
	//
	// What to do: ask for another port, or enlarge `portRange`.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonPortNotInPool Reason = "PortNotInPool"

	// ReasonPortInUse says that a port asked for is held by another Service, or for another port of the Service.
	//
	// What to do: ask for another port.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonPortInUse Reason = "PortInUse"

	// ReasonNotSupported says that the Service asks for what a load balancer behind an updater cannot do.
	//
	// What to do: see [what is refused](../guides/updater.md#what-is-refused).
	//
	//reference:in Service/Bound Service/Degraded
	ReasonNotSupported Reason = "NotSupported"

	// ReasonNotAllowed says that a pool does not serve this namespace, this Service or its class.
	//
	// What to do: ask for another pool, or change the rules of this one.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonNotAllowed Reason = "NotAllowed"

	// ReasonFamilyMismatch says that an address asked for is of a family that the Service does not have.
	//
	// What to do: ask for another address, or for both families by `spec.ipFamilyPolicy`.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonFamilyMismatch Reason = "FamilyMismatch"

	// ReasonFamilyUnavailable says that no pool has addresses of a family that the Service requires.
	//
	// What to do: add such addresses to a pool, or set `spec.ipFamilyPolicy` to `PreferDualStack`, which takes what
	// there is.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonFamilyUnavailable Reason = "FamilyUnavailable"

	// ReasonSharingConflict says that Services with one sharing key cannot share an address: they have a port in
	// common, or policy Local and different selectors.
	//
	// What to do: use other ports, policy Cluster, or another key.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonSharingConflict Reason = "SharingConflict"

	// ReasonNoEligibleNode says that no node, or no other node, may carry the address or stand behind the port; the
	// message counts nodes by reason.
	//
	// What to do: make a node eligible: labels, selectors, taints, a subnet that holds the address, an agent that is
	// ready. `kubectl mooring explain service` names each node.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonNoEligibleNode Reason = "NoEligibleNode"

	// ReasonWaitingForAgent says that an address is granted to a node whose agent has not bound it yet.
	//
	// What to do: wait; when it lasts, see the log of the agent on that node.
	//
	//reference:in Service/Bound
	ReasonWaitingForAgent Reason = "WaitingForAgent"

	// ReasonWaitingForAPI says that the decision could not be written to the API server yet.
	//
	// What to do: wait; when it lasts, see the log of the controller.
	//
	//reference:in Service/Bound
	ReasonWaitingForAPI Reason = "WaitingForAPI"

	// ReasonWaitingForPurchase says that an address is being bought, for this Service or for another one with its
	// sharing key.
	//
	// What to do: wait; when it lasts, look at the [rate limit](../guides/hetzner.md#rate-limit).
	//
	//reference:in Service/Bound Service/Degraded
	ReasonWaitingForPurchase Reason = "WaitingForPurchase"

	// ReasonAgentAbsent says that a node serves an address and its agent does not run.
	//
	// What to do: start the agent. If it runs: can the controller reach its health port?
	//
	//reference:in Service/Degraded
	ReasonAgentAbsent Reason = "AgentAbsent"

	// ReasonContested says that another machine answers for an address, too, and the node that holds it defends it.
	//
	// What to do: find the machine with the hardware address in the message, and take the address from it.
	//
	//reference:in Service/Degraded
	ReasonContested Reason = "AddressContested"

	// ReasonReleasing says that an address or a port is on its way back to its pool; the message says what that waits
	// for.
	//
	// What to do: wait; annotation `mooring.dev/abandon` lets a Service that is being deleted go.
	//
	//reference:in Service/Bound
	ReasonReleasing Reason = "Releasing"
)

// What has to do with Floating IPs and the account that they are in.
const (
	// ReasonBought says that a Floating IP was bought for the Service.
	//
	// What to do: nothing.
	//
	//reference:event Service Normal
	ReasonBought Reason = "AddressBought"

	// ReasonReleased says that the Floating IP that was bought for the Service is deleted at Hetzner.
	//
	// What to do: nothing.
	//
	//reference:event Service Normal
	ReasonReleased Reason = "AddressReleased"

	// ReasonRetained says that the Floating IP of the Service is kept at Hetzner, unassigned.
	//
	// What to do: nothing, or list it in a pool to use it again: it is billed as long as it exists.
	//
	//reference:event Service Normal
	ReasonRetained Reason = "AddressRetained"

	// ReasonProtected says that a Floating IP could not be deleted because it is protected at Hetzner; it is kept and
	// labelled so.
	//
	// What to do: remove the protection and delete it there, if it is not wanted.
	//
	//reference:event Service Warning
	ReasonProtected Reason = "AddressProtected"

	// ReasonOrphan says that a Floating IP was bought for a Service that exists no more.
	//
	// What to do: delete it at Hetzner, or set `hetzner.orphans: release`; see
	// [orphans](../guides/hetzner.md#orphans).
	//
	//reference:event Service Warning
	ReasonOrphan Reason = "OrphanedAddress"

	// ReasonRouting says that a Floating IP is being assigned to the server of the node that has bound it.
	//
	// What to do: wait.
	//
	//reference:in Service/Bound
	ReasonRouting Reason = "Routing"

	// ReasonAccountUnavailable says that an account at Hetzner could not be read yet, or is not in the cloud-config
	// any more.
	//
	// What to do: when it lasts: can the controller reach the API? See its log. Put the pool and its token back.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonAccountUnavailable Reason = "AccountUnavailable"

	// ReasonAccountMismatch says that an account at Hetzner has none of the cluster's servers: its token is that of
	// another project.
	//
	// What to do: put the token of the right project into the file; give nodes and servers the same names.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonAccountMismatch Reason = "AccountMismatch"

	// ReasonUnauthorized says that Hetzner does not accept the token, or not for writing.
	//
	// What to do: put a token with read and write into the file.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonUnauthorized Reason = "Unauthorized"

	// ReasonLimitReached says that the project may not have more Floating IPs.
	//
	// What to do: have Hetzner raise the limit, or delete some.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonLimitReached Reason = "LimitReached"

	// ReasonRateLimited says that the project's budget of API calls is used up for now.
	//
	// What to do: wait; when it happens often, find the tool that uses them.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonRateLimited Reason = "RateLimited"

	// ReasonCloudError says that Hetzner refused a call, or did not answer; the message has its words.
	//
	// What to do: wait: it is tried again. A refusal that stays needs what the message says.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonCloudError Reason = "CloudError"

	// ReasonNameTaken says that the name under which a Floating IP would be bought belongs to something else, or the
	// Service has a bought one of this family in the account already.
	//
	// What to do: rename or delete the other Floating IP; or delete the Service and make it again in the other pool.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonNameTaken Reason = "NameTaken"

	// ReasonAddressLost says that a published address does not exist at Hetzner any more. Another one is not given
	// silently.
	//
	// What to do: delete the Service and make it again, and change DNS.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonAddressLost Reason = "AddressLost"

	// ReasonFloatingIPMissing says that an address of a pool is no Floating IP of the account.
	//
	// What to do: buy it there, or take it out of the pool; check the account of the pool.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonFloatingIPMissing Reason = "FloatingIPMissing"

	// ReasonFloatingIPBlocked says that Hetzner has blocked an address.
	//
	// What to do: ask its support.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonFloatingIPBlocked Reason = "FloatingIPBlocked"

	// ReasonWrongType says that an address of a pool is the own address of a server and no Floating IP.
	//
	// What to do: take it out of the pool: it cannot move.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonWrongType Reason = "WrongType"

	// ReasonHeldElsewhere says that a Floating IP belongs to somebody else: it is assigned to a server that is no Node
	// of the cluster, or was bought by another cluster.
	//
	// What to do: free it there, or set `takeover: true` on the pool.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonHeldElsewhere Reason = "HeldElsewhere"
)

// What has to do with an external load balancer.
const (
	// ReasonWaitingForUpdater says that an external load balancer is being told, or does not answer on the port yet.
	//
	// What to do: wait: it takes up to 5 s.
	//
	//reference:in Service/Bound
	ReasonWaitingForUpdater Reason = "WaitingForUpdater"

	// ReasonUpdater says that an updater did not take what it was told, or nothing answers where it should; the
	// message has the URL or the port.
	//
	// What to do: see the log of the updater, or `nginx -t` and the log of nginx on the load balancer.
	//
	//reference:in Service/Bound Service/Degraded
	ReasonUpdater Reason = "UpdaterTrouble"

	// ReasonTargetsUnknown says that no node behind a port is Ready, so that the last ones stay.
	//
	// What to do: see why the kubelets do not report.
	//
	//reference:in Service/Degraded
	ReasonTargetsUnknown Reason = "TargetsUnknown"

	// ReasonClientAddress says that the Service has policy Local, and its pods see the load balancer's address all the
	// same and not the client's.
	//
	// What to do: nothing; where pods need the client's address, use a pool with `addresses`.
	//
	//reference:event Service Normal
	ReasonClientAddress Reason = "ClientAddressHidden"
)
