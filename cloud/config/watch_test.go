package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// never is a poll that does not come while a test runs: what is noticed then was noticed without it.
const never = time.Hour

// withPool is a valid cloud-config whose one pool has this name.
func withPool(name string) string {
	return header + "pools: [{name: " + name + ", addresses: [192.0.2.7], interface: pl0}]\n"
}

// told is one callback: the name of the first pool of a new Config, or an error.
type told struct {
	pool string
	err  error
}

type watched struct {
	*Watcher
	calls chan told
	// refuse is what onChange returns for a pool of this name.
	refuse map[string]error
}

func newWatched(path string, poll time.Duration) *watched {
	w := &watched{calls: make(chan told, 100), refuse: make(map[string]error)}
	w.Watcher = NewWatcher(path, func(c *Config) error {
		name := c.Pools[0].Name
		w.calls <- told{pool: name}
		return w.refuse[name]
	}, func(err error) {
		w.calls <- told{err: err}
	})
	w.poll = poll
	return w
}

// run runs the watcher until the test ends.
func (w *watched) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.ErrorIs(t, <-done, context.Canceled)
	})
}

func (w *watched) next(t *testing.T) told {
	t.Helper()
	select {
	case c := <-w.calls:
		return c
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing was noticed")
		return told{}
	}
}

func (w *watched) nextPool(t *testing.T) string {
	t.Helper()
	c := w.next(t)
	require.NoError(t, c.err)
	return c.pool
}

func (w *watched) nextError(t *testing.T) error {
	t.Helper()
	c := w.next(t)
	require.Error(t, c.err, "pool %s", c.pool)
	return c.err
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// replace puts a new file into place as an editor does, in one step.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	require.NoError(t, os.Rename(path+".new", path))
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	w := newWatched(path, never)
	c, err := w.Load()
	require.NoError(t, err)
	assert.Equal(t, "one", c.Pools[0].Name)
	w.run(t)

	replace(t, path, withPool("two"))
	assert.Equal(t, "two", w.nextPool(t), "the first call is for the first change: the file that was loaded is no change")
	replace(t, path, withPool("three"))
	assert.Equal(t, "three", w.nextPool(t))

	replace(t, path, withPool("Bad"))
	assert.EqualError(t, w.nextError(t), "cloud-config "+path+` is not valid:
pools[0].name: Invalid value: "Bad": must be at most 63 of a-z, 0-9 and -, with a letter or a digit first and last`)
	replace(t, path, withPool("three"))
	assert.Equal(t, "three", w.nextPool(t), "who reported the bad file learns that it is gone")

	require.NoError(t, os.Remove(path))
	assert.ErrorIs(t, w.nextError(t), os.ErrNotExist)
	replace(t, path, withPool("four"))
	assert.Equal(t, "four", w.nextPool(t))
}

func TestReloadOfAFileWrittenInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	w := newWatched(path, never)
	_, err := w.Load()
	require.NoError(t, err)
	w.run(t)
	write(t, path, withPool("two"))
	// A slow machine may show the file while it is empty.
	for w.next(t).pool != "two" {
		continue
	}
}

// A ConfigMap is mounted as links through ..data, and an update swaps that one link.
func TestReloadOfAConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, ".."+name), 0o700))
		write(t, filepath.Join(dir, ".."+name, "cloud.yaml"), withPool(name))
		require.NoError(t, os.Symlink(".."+name, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("one")
	path := filepath.Join(dir, "cloud.yaml")
	require.NoError(t, os.Symlink("..data/cloud.yaml", path))
	w := newWatched(path, never)
	_, err := w.Load()
	require.NoError(t, err)
	w.run(t)

	version("two")
	assert.Equal(t, "two", w.nextPool(t))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "..one")))
	version("three")
	assert.Equal(t, "three", w.nextPool(t))
}

func TestChangeBetweenLoadAndRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	w := newWatched(path, never)
	_, err := w.Load()
	require.NoError(t, err)
	write(t, path, withPool("two"))
	w.run(t)
	assert.Equal(t, "two", w.nextPool(t))
}

// The file is a link into a directory that is not watched: the poll notices.
func TestPollNoticesWhatTheWatchCannot(t *testing.T) {
	elsewhere, path := filepath.Join(t.TempDir(), "real.yaml"), filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, elsewhere, withPool("one"))
	require.NoError(t, os.Symlink(elsewhere, path))
	w := newWatched(path, 10*time.Millisecond)
	_, err := w.Load()
	require.NoError(t, err)
	w.run(t)
	replace(t, elsewhere, withPool("two"))
	assert.Equal(t, "two", w.nextPool(t))
}

// A watcher that only polls works where the clock is the test's: nothing of it waits for the operating system.
func TestPollOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(path, pollInterval)
		_, err := w.PollOnly().Load()
		require.NoError(t, err)
		w.run(t)
		start := time.Now()
		synctest.Wait()
		replace(t, path, withPool("two"))
		assert.Equal(t, "two", w.nextPool(t))
		assert.Equal(t, pollInterval, time.Since(start))
	})
}

// The directory is removed and comes back, as when a volume is mounted again.
func TestDirectoryComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mooring")
	path := filepath.Join(dir, "cloud.yaml")
	require.NoError(t, os.Mkdir(dir, 0o700))
	write(t, path, withPool("one"))
	w := newWatched(path, 10*time.Millisecond)
	_, err := w.Load()
	require.NoError(t, err)
	w.run(t)
	require.NoError(t, os.RemoveAll(dir))
	require.ErrorIs(t, w.nextError(t), os.ErrNotExist)
	require.NoError(t, os.Mkdir(dir, 0o700))
	replace(t, path, withPool("two"))
	assert.Equal(t, "two", w.nextPool(t))
}

// The steps of check, one by one: what is said once, and what is said again.
func TestWhatIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	w := newWatched(path, never)
	_, err := w.Load()
	require.NoError(t, err)
	said := func() []told {
		w.check()
		var all []told
		for len(w.calls) > 0 {
			all = append(all, <-w.calls)
		}
		return all
	}
	const bad = "is not valid:\napiVersion: Required value"

	assert.Empty(t, said(), "nothing changed")

	write(t, path, "pools: []")
	first := said()
	require.Len(t, first, 1)
	assert.ErrorContains(t, first[0].err, bad)
	assert.Empty(t, said(), "the same bad file is reported once")
	write(t, path, "pools: [] # still")
	require.Len(t, said(), 1, "another bad file is reported, though its mistakes are the same")

	write(t, path, "")
	empty := said()
	require.Len(t, empty, 1)
	assert.ErrorContains(t, empty[0].err, "the file is empty")

	require.NoError(t, os.Remove(path))
	assert.Len(t, said(), 1)
	assert.Empty(t, said(), "a missing file is reported once")

	write(t, path, withPool("one"))
	assert.Equal(t, []told{{pool: "one"}}, said())
	assert.Empty(t, said())

	require.NoError(t, os.Remove(path))
	require.Len(t, said(), 1)
	write(t, path, withPool("one"))
	assert.Equal(t, []told{{pool: "one"}}, said(), "who reported that the file is gone learns that it is back")
}

// A Config that is refused is offered again, because the reason may go away; the refusal is reported when it
// changes.
func TestRefusedConfigIsOfferedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	w := newWatched(path, never)
	w.refuse["one"] = errors.New("pool office is in use")
	check := func() (offers int, errs []string) {
		w.check()
		for len(w.calls) > 0 {
			if c := <-w.calls; c.err != nil {
				require.ErrorIs(t, c.err, w.refuse["one"])
				errs = append(errs, c.err.Error())
			} else {
				offers++
			}
		}
		return offers, errs
	}
	offers, errs := check()
	assert.Equal(t, 1, offers)
	assert.Equal(t, []string{"cloud-config " + path + " is valid but not taken: pool office is in use"}, errs)

	offers, errs = check()
	assert.Equal(t, 1, offers)
	assert.Empty(t, errs, "the same refusal is reported once")

	w.refuse["one"] = errors.New("pool office is in use by another")
	offers, errs = check()
	assert.Equal(t, 1, offers)
	assert.Len(t, errs, 1)

	delete(w.refuse, "one")
	offers, errs = check()
	assert.Equal(t, 1, offers)
	assert.Empty(t, errs)
	offers, _ = check()
	assert.Zero(t, offers, "a Config that was taken is not offered again")
}

// What was loaded and is not taken, such as by a controller that takes over before a token file is there, is offered as well.
func TestRefusedConfigThatWasLoadedIsOfferedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	write(t, path, withPool("one"))
	w := newWatched(path, never)
	c, err := w.Load()
	require.NoError(t, err)
	w.Refuse(c)
	w.check()
	require.Len(t, w.calls, 1)
	assert.Equal(t, told{pool: "one"}, <-w.calls)
	w.check()
	assert.Empty(t, w.calls)

	w.Refuse(c)
	_, err = w.Load()
	require.NoError(t, err)
	w.check()
	assert.Empty(t, w.calls, "loaded anew it is judged anew")
}

func TestLoadOfABadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	w := newWatched(path, never)
	_, err := w.Load()
	require.ErrorIs(t, err, os.ErrNotExist)
	write(t, path, "pools: {}")
	_, err = w.Load()
	require.ErrorContains(t, err, path+" is not valid:")
}
