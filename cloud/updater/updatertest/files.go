package updatertest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ending of the name of a file.
const ending = ".conf"

// files by backend name.
type files interface {
	write(name, content string) error
	// remove what may not be there.
	remove(name string) error
	read() (map[string]string, error)
}

// memory holds files without a disk.
type memory struct {
	mu      sync.Mutex
	content map[string]string
}

func (m *memory) write(name, content string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.content[name] = content
	return nil
}

func (m *memory) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.content, name)
	return nil
}

func (m *memory) read() (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.content), nil
}

// directory holds one file for each backend.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name+ending) }

// write replaces the file in one step.
func (d directory) write(name, content string) error {
	next := d.path(name) + ".next" // which nginx does not include
	if err := os.WriteFile(next, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(next, d.path(name))
}

func (d directory) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d directory) read() (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(string(d), "*"+ending))
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(paths))
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(filepath.Base(path), ending)] = string(content)
	}
	return all, nil
}

// render a file of nginx's stream module. Nothing is escaped or judged.
func (s *Server) render(r Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "upstream %s {\n", r.BackendName)
	for _, t := range r.UpstreamServers {
		fmt.Fprintf(&b, "    server %s:%d;\n", t.Host, t.Port)
	}
	listen := fmt.Sprint(r.LBPort)
	if s.options.Listen != "" {
		listen = s.options.Listen + ":" + listen
	}
	if strings.EqualFold(r.LBProtocol, "udp") {
		listen += " udp"
	}
	fmt.Fprintf(&b, "}\nserver {\n    listen %s;\n    proxy_pass %s;\n    proxy_timeout %ds;\n    proxy_connect_timeout %ds;\n}\n",
		listen, r.BackendName, orElse(r.ProxyTimeoutSeconds, s.options.ProxyTimeout), orElse(r.ProxyConnectTimeoutSeconds, s.options.ConnectTimeout))
	return b.String()
}
