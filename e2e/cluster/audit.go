package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Write is one write that the API server answered.
type Write struct {
	Time time.Time
	// User such as system:serviceaccount:mooring-system:mooring-agent, and the user agent of its client.
	User, UserAgent string
	// Verb is create, update, patch, delete or deletecollection.
	Verb string
	// Resource such as services, and status when that part was written.
	Resource, Subresource string
	Namespace, Name       string
	// Code of the answer; below 300 something was written.
	Code int
}

func (c *Cluster) auditLog() string { return filepath.Join(c.Logs, "audit.log") }

// Writes that the API server has answered since the time, oldest first.
func (c *Cluster) Writes(since time.Time) ([]Write, error) {
	var writes []Write
	err := c.audited(func(e *auditEvent) {
		if e.Stage != "ResponseComplete" || slices.Contains([]string{"get", "list", "watch"}, e.Verb) || e.StageTimestamp.Before(since) {
			return
		}
		writes = append(writes, Write{
			Time: e.StageTimestamp, User: e.User.Username, UserAgent: e.UserAgent, Verb: e.Verb,
			Resource: e.ObjectRef.Resource, Subresource: e.ObjectRef.Subresource,
			Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name, Code: e.ResponseStatus.Code,
		})
	})
	return writes, err
}

// auditEvent is what is read of a line of the audit log.
type auditEvent struct {
	Stage          string
	Verb           string
	UserAgent      string
	StageTimestamp time.Time
	User           struct{ Username string }
	ObjectRef      struct{ APIGroup, Resource, Subresource, Namespace, Name string }
	ResponseStatus struct {
		Code    int
		Message string
	}
}

// audited calls f with each event of the audit log, oldest first.
func (c *Cluster) audited(f func(*auditEvent)) error {
	file, err := os.Open(c.auditLog())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what is left of the line is still being written
		}
		if err != nil {
			return err
		}
		var event auditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return fmt.Errorf("read %s: %w", c.auditLog(), err)
		}
		f(&event)
	}
}
