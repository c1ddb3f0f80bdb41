package config

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// pollInterval is how often the file is read whether or not a change was noticed: it covers a link to
	// elsewhere, a directory that was made anew, a filesystem without notifications, and a machine that has no
	// inotify instance left.
	pollInterval = 10 * time.Second
	// settle is how long the file is left alone after the first sign of a change: an editor truncates before
	// it writes.
	settle = 100 * time.Millisecond
)

// Watcher keeps the Config of one file current. A file that is not valid, or is gone, leaves the last good
// Config in place.
type Watcher struct {
	path     string
	onChange func(*Config) error
	onError  func(error)
	poll     time.Duration
	// pollOnly: no notifications are asked for.
	pollOnly bool

	// judged is the content that was judged last, good or bad; nil before the first.
	judged []byte
	// refused is the Config that onChange did not take; nil when it took the last.
	refused *Config
	// said is what onError was told last about the file as it is; empty when all is well.
	said string
}

// NewWatcher returns a Watcher of the file at path. It calls back from Run only, one call at a time.
//
// onChange is given each new valid Config. It may refuse it by returning an error: then what was current stays
// so, and the Config is offered again every few seconds, because a refusal can depend on more than the file.
// When the file returns to what it was after a bad version, onChange is called too, so that whoever reported
// the mistake learns that it is gone.
//
// onError is told once about each content that is not valid, about each refusal, and about a file that cannot
// be read.
func NewWatcher(path string, onChange func(*Config) error, onError func(error)) *Watcher {
	return &Watcher{path: path, onChange: onChange, onError: onError, poll: pollInterval}
}

// PollOnly returns the Watcher without notifications of the operating system: it notices a change within 10 s. It is
// called before Run.
func (w *Watcher) PollOnly() *Watcher {
	w.pollOnly = true
	return w
}

// Load returns what Load(path) does and remembers it as current: Run reports a change from there on, also one
// that came between the two calls. Load is called before Run or not at all; without it Run reports the file as
// it finds it.
func (w *Watcher) Load() (*Config, error) {
	data, err := readFile(w.path)
	if err != nil {
		return nil, err
	}
	c, err := parseFile(w.path, data)
	if err != nil {
		return nil, err
	}
	w.judged, w.refused = data, nil
	return c, nil
}

// Refuse says that the Config which Load returned is not taken. Run offers it again, as one that onChange refuses.
func (w *Watcher) Refuse(c *Config) { w.refused = c }

// Run watches until the context ends and returns the context's error.
func (w *Watcher) Run(ctx context.Context) error {
	events, errs, stop := w.notifications()
	defer stop()
	// After the watch began, so that no change falls between.
	w.check()

	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-events:
			if settled == nil {
				settled = time.After(settle)
			}
		case <-errs: //nolint:errcheck // whatever it was, events were lost
			w.check()
		case <-settled:
			settled = nil
			w.check()
		case <-poll.C:
			w.check()
		}
	}
}

// notifications of changes in the file's directory, which is where an editor renames a new file into place, and
// where a mounted ConfigMap swaps its ..data link. They make a reload fast; when they cannot be had, the poll
// remains.
func (w *Watcher) notifications() (events <-chan fsnotify.Event, errs <-chan error, stop func()) {
	if w.pollOnly {
		return nil, nil, func() {}
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, func() {}
	}
	stop = func() { _ = notify.Close() }
	if err := notify.Add(filepath.Dir(w.path)); err != nil {
		return nil, nil, stop
	}
	return notify.Events, notify.Errors, stop
}

// check reads the file and calls back when it differs from what was judged last.
func (w *Watcher) check() {
	data, err := readFile(w.path)
	if err != nil {
		w.judged, w.refused = nil, nil
		w.report(err)
		return
	}
	if w.judged != nil && bytes.Equal(data, w.judged) {
		if w.refused != nil {
			w.offer(w.refused)
		}
		return
	}
	// An empty file is judged as well.
	w.judged, w.refused, w.said = append([]byte{}, data...), nil, ""
	c, err := parseFile(w.path, data)
	if err != nil {
		w.report(err)
		return
	}
	w.offer(c)
}

func (w *Watcher) offer(c *Config) {
	if err := w.onChange(c); err != nil {
		w.refused = c
		w.report(fmt.Errorf("cloud-config %s is valid but not taken: %w", w.path, err))
		return
	}
	w.refused, w.said = nil, ""
}

func (w *Watcher) report(err error) {
	if w.said != err.Error() {
		w.said = err.Error()
		w.onError(err)
	}
}
