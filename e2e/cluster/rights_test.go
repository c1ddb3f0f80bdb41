package cluster

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestShows tells which rights an answer of the API server proves, beside the one that was asked for.
func TestShows(t *testing.T) {
	agent := func(verb string) Use {
		return Use{Account: "mooring-agent", Verb: verb, Group: "mooring.dev", Resource: "nodeaddresses"}
	}
	assert.Equal(t, []Use{agent("watch"), agent("list")}, agent("watch").shows(http.StatusOK))
	assert.Equal(t, []Use{agent("patch"), agent("create")}, agent("patch").shows(http.StatusCreated))
	assert.Equal(t, []Use{agent("patch")}, agent("patch").shows(http.StatusOK))
	assert.Equal(t, []Use{agent("list")}, agent("list").shows(http.StatusOK), "who may list may not watch for that")
}
