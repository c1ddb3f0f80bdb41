// Package protocol simulates the whole protocol between controllers and agents, in tests alone: two controllers, three
// to five nodes, the API server between them, the segment that all nodes stand on, users, and whatever goes wrong.
//
// A schedule is driven by its seed and nothing else: one thread, a virtual clock, one queue of events. What blocks in the
// product, such as the writing of an object, is a coroutine that hands over strictly. So a schedule costs milliseconds,
// and a seed that breaks an invariant breaks it each time.
//
// It runs the product's own decisions and no copy of them: ledger (with pool and place), nodeaddresses, service and probe
// of the controller, and the agent's Keeper with its conflict detection. What it replaces is what stands around them:
// sockets, informers, work queues, the kernel, and the API server, which delays, refuses and loses as real ones do.
//
// It imports both sides, which may not import each other, and nothing imports it; hence it belongs to neither of them, and
// stands with the tests of the whole.
package protocol
