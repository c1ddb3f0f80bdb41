package convert

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNamesOfPools(t *testing.T) {
	n := names{}
	assert.Equal(t, "office", n.take("office"))
	assert.Equal(t, "office-2", n.take("office"))
	assert.Equal(t, "office-3", n.take("Office."))
	assert.Equal(t, "a-b", n.take("a.b"))
	assert.Equal(t, "pool", n.take("..."))
	const long = "this-is-a-name-of-sixty-three-characters-which-is-as-long-as-it"
	require.Len(t, long, 63)
	assert.Equal(t, long, n.take(long))
	assert.Equal(t, long[:60]+"-2", n.take(long))
	assert.Len(t, n.take(long+"-more"), 63)
	assert.NotEqual(t, n.take(long+"-other"), n.take(long+"-another"))
}
