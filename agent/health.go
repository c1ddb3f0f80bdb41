package agent

import (
	"fmt"
	"net/http"
	"time"
)

// HealthHandler serves /healthz, /readyz and /metrics, and nothing else.
func (a *Agent) HealthHandler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	answer := func(check func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, err) // the client is gone when this does not work
				return
			}
			_, _ = fmt.Fprintln(w, "ok")
		}
	}
	mux.HandleFunc("GET /healthz", answer(func() error { return a.Alive(time.Now()) }))
	mux.HandleFunc("GET /readyz", answer(a.Ready))
	mux.Handle("GET /metrics", metrics)
	return mux
}
