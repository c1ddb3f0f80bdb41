package updatertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// streamModule of Debian's package libnginx-mod-stream. An nginx that has the module built in needs no such file.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

// Nginx is a real nginx with the stream module, which serves what an updater writes into its Streams.
type Nginx struct {
	// Dir that belongs to it alone: configuration, files, process id and log.
	Dir string
	// WorkerConnections; 0: 1024.
	WorkerConnections int
	// Command makes the processes, for example in another network namespace; nil: exec.CommandContext.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
}

// Streams is the directory for the files of backends: Options.Dir of the Server.
func (n *Nginx) Streams() string { return filepath.Join(n.Dir, "streams.d") }

// ErrorLog is the path of nginx's log.
func (n *Nginx) ErrorLog() string { return filepath.Join(n.Dir, "error.log") }

func (n *Nginx) conf() string { return filepath.Join(n.Dir, "nginx.conf") }
func (n *Nginx) pid() string  { return filepath.Join(n.Dir, "nginx.pid") }

// Write the configuration and the directory that it includes.
func (n *Nginx) Write() error {
	if err := os.MkdirAll(n.Streams(), 0o755); err != nil {
		return err
	}
	var b strings.Builder
	if _, err := os.Stat(streamModule); err == nil {
		fmt.Fprintf(&b, "load_module %s;\n", streamModule)
	}
	fmt.Fprintf(&b, "daemon off;\nworker_processes 1;\npid %s;\nerror_log %s notice;\n", n.pid(), n.ErrorLog())
	fmt.Fprintf(&b, "events {\n    worker_connections %d;\n}\nstream {\n    include %s/*%s;\n}\n", orElse(n.WorkerConnections, 1024), n.Streams(), ending)
	return os.WriteFile(n.conf(), []byte(b.String()), 0o644)
}

// Run nginx until the context ends. The error says what it said.
func (n *Nginx) Run(ctx context.Context) error {
	cmd := n.command(ctx)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); ctx.Err() == nil {
		return fmt.Errorf("nginx ended: %w: %s", err, out)
	}
	return nil
}

// Test is nginx -t.
func (n *Nginx) Test(ctx context.Context) error { return n.finish(n.command(ctx, "-t", "-q")) }

// Reload is nginx -s reload. Before nginx has started there is nothing to reload: it will read what there is.
func (n *Nginx) Reload(ctx context.Context) error {
	if content, err := os.ReadFile(n.pid()); errors.Is(err, fs.ErrNotExist) || err == nil && len(content) == 0 {
		return nil
	}
	return n.finish(n.command(ctx, "-s", "reload"))
}

func (n *Nginx) command(ctx context.Context, args ...string) *exec.Cmd {
	command := n.Command
	if command == nil {
		command = exec.CommandContext
	}
	path := "nginx"
	if found, err := exec.LookPath(path); err == nil {
		path = found
	} else if _, err := os.Stat("/usr/sbin/nginx"); err == nil {
		path = "/usr/sbin/nginx" // a login without root often has no sbin in its path
	}
	return command(ctx, path, append([]string{"-p", n.Dir, "-c", n.conf(), "-e", n.ErrorLog()}, args...)...)
}

func (n *Nginx) finish(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nginx: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
