package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EvidenceVariable names the directory in which each cluster leaves what Mooring's accounts used of their rights, when it
// is closed. Unset: it leaves nothing.
const EvidenceVariable = "MOORING_E2E_EVIDENCE"

// Use is one way in which a process of Mooring's used the rights of its account.
type Use struct {
	// Account is the name of the ServiceAccount, in Namespace.
	Account string
	Verb    string
	// Resource with its subresource, such as services/status.
	Group, Resource string
	// Namespace and Name of the object, both empty for objects that are not about the control plane itself: there are too
	// many.
	Namespace, Name string
}

// Uses reads what all clusters left in the directory.
func Uses(dir string) (map[Use]bool, error) {
	uses := map[Use]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "uses-*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var some []Use
		if err := json.Unmarshal(text, &some); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		for _, use := range some {
			uses[use] = true
		}
	}
	return uses, nil
}

// accountPrefix is how the API server calls the accounts of Mooring's.
const accountPrefix = "system:serviceaccount:" + Namespace + ":"

// rights looks through what Mooring's processes asked of the API server: it leaves what they used of their rights in the
// directory of EvidenceVariable, and its error lists what was refused to them for want of a right, and never granted.
func (c *Cluster) rights() error {
	uses, refusals := map[Use]bool{}, map[Use]string{}
	err := c.audited(func(e *auditEvent) {
		account, ours := strings.CutPrefix(e.User.Username, accountPrefix)
		// Tests that borrow the token of an account have another user agent.
		if !ours || e.ObjectRef.Resource == "" || !strings.HasPrefix(e.UserAgent, account) {
			return
		}
		use := Use{
			Account: account, Verb: e.Verb, Group: e.ObjectRef.APIGroup,
			Resource: strings.TrimSuffix(e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/"),
		}
		if ns := e.ObjectRef.Namespace; ns == metav1.NamespaceSystem || ns == Namespace {
			use.Namespace, use.Name = ns, e.ObjectRef.Name
		}
		// That nothing new comes into a namespace that ends is no right that is missing.
		if e.ResponseStatus.Code == http.StatusForbidden && !strings.Contains(e.ResponseStatus.Message, "being terminated") {
			refusals[use] = e.ResponseStatus.Message
			return
		}
		for _, shown := range use.shows(e.ResponseStatus.Code) {
			uses[shown] = true
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the API server never ran
	}
	if err != nil {
		return err
	}
	var errs []error
	for use, message := range refusals {
		// An API server that has just been started does not know yet what it grants.
		if !uses[use] {
			errs = append(errs, fmt.Errorf("%s may not %s %s: %s", use.Account, use.Verb, use.Resource, message))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(append(errs, leave(uses))...)
}

// shows returns the rights that were granted where an account was served in this way.
func (u Use) shows(status int) []Use {
	other := u
	switch {
	case u.Verb == "patch" && status == http.StatusCreated: // applied
		other.Verb = "create"
	case u.Verb == "watch":
		// It begins with a list of its own, unless the API server cannot do that: then client-go lists first. It does so
		// too where an API server that has just been started refuses the watch, and the list as well.
		other.Verb = "list"
	default:
		return []Use{u}
	}
	return []Use{u, other}
}

// leave writes uses into the directory of EvidenceVariable.
func leave(uses map[Use]bool) error {
	dir := os.Getenv(EvidenceVariable)
	if dir == "" || len(uses) == 0 {
		return nil
	}
	all := make([]Use, 0, len(uses))
	for use := range uses {
		all = append(all, use)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "uses-")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}
