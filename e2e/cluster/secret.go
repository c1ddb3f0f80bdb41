package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Secret makes it known that nobody may hear the text, nor the first part of it: Close looks for it wherever Mooring says
// something. What it is stands in the error.
func (c *Cluster) Secret(what, text string) {
	c.secrets.mu.Lock()
	defer c.secrets.mu.Unlock()
	c.secrets.all = append(c.secrets.all, secret{what, text})
}

// secrets are those that are known; pods ask for tokens beside the test.
type secrets struct {
	mu  sync.Mutex
	all []secret
}

type secret struct{ what, text string }

// partOfSecret is as much of a secret as may not be told either.
const partOfSecret = 12

// collectMetrics puts the metrics of all processes of Mooring's that answer beside their logs.
func (c *Cluster) collectMetrics() error {
	var errs []error
	put := func(p *Process, url string, host *Host) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		text, err := c.metricsAt(ctx, host, url)
		if err == nil { // a process that does not answer tells nothing
			errs = append(errs, os.WriteFile(filepath.Join(c.Logs, p.Name+".metrics"), []byte(text), 0o644))
		}
	}
	for i, controller := range c.Controllers {
		if controller.Running() {
			put(controller, fmt.Sprintf("https://127.0.0.1:%d/metrics", c.ControllerPort(i)), controller.host)
		}
	}
	for _, node := range c.Nodes {
		if node.Agent != nil && node.Agent.Running() {
			put(node.Agent, fmt.Sprintf("http://127.0.0.1:%d/metrics", AgentHealthPort), node.Host)
		}
	}
	return errors.Join(errs...)
}

// ControllerMetrics are the metrics of the i-th controller, as Prometheus reads them.
func (c *Cluster) ControllerMetrics(ctx context.Context, i int) (string, error) {
	return c.metricsAt(ctx, c.Controllers[i].host, fmt.Sprintf("https://127.0.0.1:%d/metrics", c.ControllerPort(i)))
}

// metricsAt reads metrics as the administrator, from a host; nil: beside the control plane.
func (c *Cluster) metricsAt(ctx context.Context, host *Host, url string) (string, error) {
	// Controllers serve with certificates of their own making.
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if host != nil {
		transport.DialContext = host.DialContext
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+c.Config.BearerToken)
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, response.Status)
	}
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// told looks for secrets in all that Mooring said: the logs and metrics of its processes, what kubectl mooring printed, and
// everything that was ever written to etcd, which is each object as it was at any time. Its error names the file and the
// secret, and not its text.
func (c *Cluster) told() error {
	c.secrets.mu.Lock()
	defer c.secrets.mu.Unlock()
	var files []string
	for _, pattern := range []string{"controller-*.log", "*-agent.log", "*-mooring-*.log", "*.metrics", kubectlLog} {
		some, err := filepath.Glob(filepath.Join(c.Logs, pattern))
		if err != nil {
			return err
		}
		files = append(files, some...)
	}
	err := filepath.WalkDir(c.file("etcd"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !c.options.SecretsInObjects {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
		}
		for _, s := range c.secrets.all {
			if bytes.Contains(text, []byte(s.text[:min(partOfSecret, len(s.text))])) {
				errs = append(errs, fmt.Errorf("%s tells %s", file, s.what))
			}
		}
	}
	return errors.Join(errs...)
}
