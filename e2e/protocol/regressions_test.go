package protocol

// regressions are the seeds of schedules that broke an invariant, by what was wrong. A change of the simulation itself
// gives every seed another story; what each has found is tested where it was mended, too.
var regressions = map[string]uint64{
	"a deposed leader grants and publishes an address":                1498,
	"the router believes a claim that nobody stands behind":           1304,
	"a contest is over, and the router still sends elsewhere":         1413,
	"a successor waits for a predecessor that waits for it to answer": 11759,
}
