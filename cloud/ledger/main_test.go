package ledger

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain gives the random tests one seed, so that a run says what every run says; -rapid.seed=0 looks for more.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.seed", "1"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(m.Run())
}
