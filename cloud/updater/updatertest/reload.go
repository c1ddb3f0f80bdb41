package updatertest

import "context"

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
	content, err := s.files.read()
	if err == nil {
		if s.options.Test != nil {
			err = s.options.Test(ctx)
		} else {
			err = Check(content)
		}
	}
	if err == nil && s.options.Reload != nil {
		err = s.options.Reload(ctx)
	}
	if s.options.ReloadTime > 0 {
		select {
		case <-s.options.Clock.After(s.options.ReloadTime):
		case <-ctx.Done():
		}
	}
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
