package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	file, err := os.Open(c.auditLog())
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var writes []Write
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return writes, nil // what is left of the line is still being written
		}
		if err != nil {
			return nil, err
		}
		var event struct {
			Verb           string
			UserAgent      string
			StageTimestamp time.Time
			User           struct{ Username string }
			ObjectRef      struct{ Resource, Subresource, Namespace, Name string }
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("read %s: %w", c.auditLog(), err)
		}
		if event.StageTimestamp.Before(since) {
			continue
		}
		writes = append(writes, Write{
			Time: event.StageTimestamp, User: event.User.Username, UserAgent: event.UserAgent, Verb: event.Verb,
			Resource: event.ObjectRef.Resource, Subresource: event.ObjectRef.Subresource,
			Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name, Code: event.ResponseStatus.Code,
		})
	}
}
