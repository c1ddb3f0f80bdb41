package updatertest

import (
	"context"
	"time"
)

// notice that a file has changed. The loop is not told how many.
func (s *Server) notice() {
	select {
	case s.noticed <- struct{}{}:
	default:
	}
}

// Run is the reload loop until the context ends: it waits for a change, tests, reloads, and only then looks for changes
// again. So what changes during a reload is served after the next change, whenever that is.
func (s *Server) Run(ctx context.Context) {
	for {
		select {
		case <-s.noticed:
		case <-ctx.Done():
			return
		}
		s.reload(ctx)
		select {
		case <-s.noticed: // nobody was looking
		default:
		}
	}
}

func (s *Server) reload(ctx context.Context) {
	err := s.test(ctx)
	s.pass(ctx, s.options.TestTime)
	content, unreadable := s.files.read()
	if err == nil {
		err = unreadable
	}
	switch {
	case err != nil:
	case s.options.Reload != nil:
		err = s.options.Reload(ctx)
	case s.options.Test == nil:
		err = Check(content)
	}
	s.pass(ctx, s.options.ReloadTime)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refusals = append(s.refusals, err)
		return
	}
	s.reloads++
	s.served = content
}

// test is nginx -t.
func (s *Server) test(ctx context.Context) error {
	if s.options.Test != nil {
		return s.options.Test(ctx)
	}
	content, err := s.files.read()
	if err != nil {
		return err
	}
	return Check(content)
}

// pass some time.
func (s *Server) pass(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-s.options.Clock.After(d):
	case <-ctx.Done():
	}
}
