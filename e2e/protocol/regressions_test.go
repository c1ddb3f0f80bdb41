package protocol

// regressions are seeds of schedules that break an invariant when the product breaks the rule beside them: each was seen
// to do so. A change of the simulation gives every seed another story, so each rule is tested in its own package, too;
// the seeds are looked for anew then, by breaking the rule.
var regressions = map[string]uint64{
	"a predecessor is written before its successor":                  17,
	"what is acknowledged is bound":                                  1,
	"a write that was given up overwrites nothing when it arrives":   4176,
	"a deposed leader writes nothing":                                12458,
	"of two Holds one is revoked":                                    117,
	"an isolated node yields":                                        32,
	"a node that yields and is isolated believes its successor":      9852,
	"a successor announces what it has":                              4,
	"an entry stays until its agent has let go":                      10,
	"neighbours that believed a claim nobody stands behind are told": 2061,
	"neighbours are reminded of who holds an address":                3038,
	"a kubelet that restarts costs its node nothing":                 71,
	"what stays not ready carries nothing":                           76,
	"nothing new is given to what is not ready":                      500,
	"what shuts down has nothing when it goes":                       10,
	"a deposed leader stops although it has nothing to write":        27235,
	"who joins on an address is written before that is published":    194,
}
