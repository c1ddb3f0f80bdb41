package cluster

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestGranted tells what a refusal by an API server that has just been started differs by from a right that is missing.
func TestGranted(t *testing.T) {
	agent := func(verb, resource string) Use {
		return Use{Account: "mooring-agent", Verb: verb, Group: "mooring.dev", Resource: resource}
	}
	uses := map[Use]bool{
		agent("watch", "nodeaddresses"):        true,
		agent("patch", "nodeaddresses/status"): true,
	}
	assert.True(t, granted(uses, agent("patch", "nodeaddresses/status")), "granted at another time")
	assert.True(t, granted(uses, agent("list", "nodeaddresses")), "client-go lists only where a watch was refused")
	assert.False(t, granted(uses, agent("patch", "nodeaddresses")), "never granted")
	assert.False(t, granted(uses, agent("list", "nodes")), "never granted, and no watch of it either")
}
