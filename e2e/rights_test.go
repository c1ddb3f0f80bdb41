package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// provingRights runs the tests, and compares after all of them what RBAC grants to Mooring's accounts with what their
// processes used, as the audit logs of all clusters show: a right that no test uses is one too many, or lacks a test. What
// was refused to them fails the test whose cluster it was. After a part of the tests nothing is compared. The flags are
// parsed already.
func provingRights(run func() int) int {
	whole := option("skip") == "" && slices.Contains([]string{"", "."}, option("run"))
	if !whole || os.Getenv(cluster.EvidenceVariable) != "" {
		return run()
	}
	evidence, err := os.MkdirTemp("", "mooring-e2e-evidence-")
	if err == nil {
		err = os.Setenv(cluster.EvidenceVariable, evidence)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(evidence) }()
	code := run()
	if code != 0 {
		fmt.Println("e2e: what RBAC grants is compared with what was used when all tests pass")
		return code
	}
	if err := compareRights(evidence); err != nil {
		fmt.Printf("--- FAIL: what RBAC grants and what was used\n%v\nFAIL\n", err)
		return 1
	}
	return 0
}

// compareRights says what no test used of what the manifests grant.
func compareRights(evidence string) error {
	uses, err := cluster.Uses(evidence)
	if err != nil {
		return err
	}
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range []string{"manifests/base/controller-rbac.yaml", "manifests/base/agent-rbac.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		grants, err := grantsOf(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, right := range unused(grants, uses) {
			errs = append(errs, fmt.Errorf("%s: %s, and no test uses that: take it out, or write the test that needs it", file, right))
		}
		for _, rule := range watchedUnlisted(grants) {
			errs = append(errs, fmt.Errorf("%s: %s, which client-go needs when a watch cannot begin with a list", file, rule))
		}
	}
	return errors.Join(errs...)
}

// grant is a rule that a binding gives to an account of ours.
type grant struct {
	account, role string
	// namespace that it is about; empty: all.
	namespace string
	rule      rbacv1.PolicyRule
}

// rolesOfKubernetes are those that our accounts are bound to, as far as they are compared: they are granted whole or not at
// all, so one use of each is enough.
var rolesOfKubernetes = map[string]rbacv1.PolicyRule{
	"system:auth-delegator":                     {Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}},
	"extension-apiserver-authentication-reader": {Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"extension-apiserver-authentication"}},
}

// grantsOf reads what a file of manifests grants to its accounts.
func grantsOf(manifests []byte) ([]grant, error) {
	type object struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
		Rules    []rbacv1.PolicyRule
		RoleRef  rbacv1.RoleRef
		Subjects []rbacv1.Subject
	}
	roles := map[string][]rbacv1.PolicyRule{}
	for name, rule := range rolesOfKubernetes {
		for _, kind := range []string{"ClusterRole/", "Role/kube-system/"} {
			roles[kind+name] = []rbacv1.PolicyRule{rule}
		}
	}
	var bindings []object
	for document := range bytes.SplitSeq(manifests, []byte("\n---\n")) {
		var o object
		if err := yaml.Unmarshal(document, &o); err != nil {
			return nil, err
		}
		switch o.Kind {
		case "ClusterRole":
			roles["ClusterRole/"+o.Metadata.Name] = o.Rules
		case "Role":
			roles["Role/"+o.Metadata.Namespace+"/"+o.Metadata.Name] = o.Rules
		case "ClusterRoleBinding", "RoleBinding":
			bindings = append(bindings, o)
		}
	}
	var grants []grant
	for _, b := range bindings {
		key := b.RoleRef.Kind + "/" + b.RoleRef.Name
		if b.RoleRef.Kind == "Role" {
			key = "Role/" + b.Metadata.Namespace + "/" + b.RoleRef.Name
		}
		if roles[key] == nil {
			return nil, fmt.Errorf("%s %s binds %s, whose rules are not known here", b.Kind, b.Metadata.Name, key)
		}
		for _, rule := range roles[key] {
			for _, subject := range b.Subjects {
				grants = append(grants, grant{subject.Name, b.RoleRef.Kind + " " + b.RoleRef.Name, b.Metadata.Namespace, rule})
			}
		}
	}
	return grants, nil
}

// unused names the rights, a verb on a resource each, that are granted and were not used.
func unused(grants []grant, uses map[cluster.Use]bool) (rights []string) {
	for _, g := range grants {
		names := g.rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range g.rule.APIGroups {
			for _, resource := range g.rule.Resources {
				for _, verb := range g.rule.Verbs {
					for _, name := range names {
						if !usedAtAll(uses, cluster.Use{Account: g.account, Verb: verb, Group: group, Resource: resource, Namespace: g.namespace, Name: name}) {
							rights = append(rights, strings.TrimSuffix(fmt.Sprintf("%s grants %s of %s %s", g.role, verb, strings.Trim(resource+"."+group, "."), name), " "))
						}
					}
				}
			}
		}
	}
	return rights
}

// watchedUnlisted names what an account may watch and may not list. No test would find out: nothing is listed as long as
// the API server can begin a watch with a list.
func watchedUnlisted(grants []grant) (rules []string) {
	for _, g := range grants {
		if slices.Contains(g.rule.Verbs, "watch") && !slices.Contains(g.rule.Verbs, "list") {
			rules = append(rules, fmt.Sprintf("%s grants watch of %s and not list", g.role, strings.Join(g.rule.Resources, ", ")))
		}
	}
	return rules
}

// usedAtAll says whether the right was used, in whatever namespace and on whatever object it is for.
func usedAtAll(uses map[cluster.Use]bool, right cluster.Use) bool {
	for use := range uses {
		if right.Namespace == "" {
			use.Namespace = ""
		}
		if right.Name == "" {
			use.Name = ""
		}
		if use == right {
			return true
		}
	}
	return false
}

// TestUnusedRightsAreFound tells that a right that nobody uses does not go unnoticed.
func TestUnusedRightsAreFound(t *testing.T) {
	grants, err := grantsOf([]byte(`
kind: ClusterRole
metadata: {name: all}
rules:
- {apiGroups: [""], resources: [services, services/status], verbs: [get, patch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list]}
---
kind: ClusterRoleBinding
metadata: {name: all}
roleRef: {kind: ClusterRole, name: all}
subjects: [{kind: ServiceAccount, name: controller}]
---
kind: Role
metadata: {name: some, namespace: kube-system}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [a, b], verbs: [get]}
---
kind: RoleBinding
metadata: {name: some, namespace: kube-system}
roleRef: {kind: Role, name: some}
subjects: [{kind: ServiceAccount, name: controller}]
---
kind: ClusterRoleBinding
metadata: {name: delegator}
roleRef: {kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: controller}]
`))
	assert.NoError(t, err)
	use := func(verb, group, resource, namespace, name string) cluster.Use {
		return cluster.Use{Account: "controller", Verb: verb, Group: group, Resource: resource, Namespace: namespace, Name: name}
	}
	uses := map[cluster.Use]bool{
		use("get", "", "services", "", ""):                                 true,
		use("patch", "", "services/status", "kube-system", "x"):            true,
		use("get", "coordination.k8s.io", "leases", "kube-system", "a"):    true,
		use("get", "coordination.k8s.io", "leases", "mooring-system", "b"): true,
		{Account: "agent", Verb: "patch", Resource: "services"}:            true,
		use("list", "", "endpointslices", "", ""):                          true,
		use("create", "authentication.k8s.io", "tokenreviews", "", ""):     true,
	}
	assert.Equal(t, []string{
		"ClusterRole all grants patch of services",
		"ClusterRole all grants get of services/status",
		"ClusterRole all grants list of endpointslices.discovery.k8s.io",
		"Role some grants get of leases.coordination.k8s.io b",
	}, unused(grants, uses))
	assert.Empty(t, watchedUnlisted(grants))
	grants[0].rule.Verbs = append(grants[0].rule.Verbs, "watch")
	assert.Equal(t, []string{"ClusterRole all grants watch of services, services/status and not list"}, watchedUnlisted(grants))
}
