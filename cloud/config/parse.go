package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	apiVersion = "mooring.dev/v1alpha1"
	kind       = "CloudConfig"
)

// Load reads and judges the cloud-config file. The error names the file and lists every mistake in it, one a
// line; see Parse.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parseFile(path, data)
}

func readFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the cloud-config: %w", err)
	}
	return data, nil
}

func parseFile(path string, data []byte) (*Config, error) {
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("cloud-config %s is not valid:\n%w", path, err)
	}
	return c, nil
}

// Parse reads and judges a cloud-config. Its error joins (errors.Join) one *field.Error for each mistake, in a
// stable order: first the keys that cannot be read, then what is wrong with the rest. A file that cannot be
// read as one YAML mapping is a single error of another type.
//
// Parse reads no other file: the secrets that a cloud-config names need not exist yet.
func Parse(data []byte) (*Config, error) {
	f, r, err := read(data)
	if err != nil {
		return nil, err
	}
	j := newJudge(r)
	c := j.config(f)
	if len(j.mistakes) > 0 {
		return nil, join(j.mistakes)
	}
	return c, nil
}

func join(mistakes field.ErrorList) error {
	errs := make([]error, len(mistakes))
	for i, e := range mistakes {
		errs[i] = e
	}
	return errors.Join(errs...)
}

func (j *judge) config(f *file) *Config {
	j.exactly(field.NewPath("apiVersion"), f.APIVersion, apiVersion)
	j.exactly(field.NewPath("kind"), f.Kind, kind)

	failover := or(f.Failover, fileFailover{})
	at := field.NewPath("failover")
	c := &Config{
		InitializeNodes: or(f.InitializeNodes, true),
		Failover: Failover{
			ProbeInterval:    j.duration(at.Child("probeInterval"), failover.ProbeInterval, 300*time.Millisecond, 10*time.Millisecond, time.Minute),
			FailureThreshold: or(failover.FailureThreshold, 3),
			EvacuateCordoned: or(failover.EvacuateCordoned, false),
		},
		ResyncInterval: j.duration(field.NewPath("resyncInterval"), f.ResyncInterval, 10*time.Minute, time.Second, 24*time.Hour),
	}
	if n := c.Failover.FailureThreshold; n < 1 || n > 100 {
		j.invalid(at.Child("failureThreshold"), int64(n), "must be between 1 and 100")
	}
	if f.Hetzner != nil {
		c.Hetzner = j.account(field.NewPath("hetzner"), f.Hetzner)
	}

	at = field.NewPath("pools")
	if len(f.Pools) == 0 {
		j.required(at, "without a pool there is nothing to give out: write at least one, such as {name: office, addresses: [192.0.2.10-192.0.2.20], interface: pl0}")
	}
	names := make(map[string]*field.Path)
	for i := range f.Pools {
		p := at.Index(i)
		pool := j.pool(p, &f.Pools[i], c.Hetzner)
		if first := names[pool.Name]; first != nil && pool.Name != "" {
			j.invalid(p.Child("name"), pool.Name, "%s has this name already: names of pools are unique", first)
		} else {
			names[pool.Name] = p
		}
		c.Pools = append(c.Pools, pool)
	}
	j.disjointAddresses(at, c.Pools, f.Pools)
	j.disjointNetworks(at, c.Pools)
	j.disjointPorts(at, c.Pools)
	return c
}

// exactly judges a key that has one value only.
func (j *judge) exactly(p *field.Path, value *string, want string) {
	if value == nil {
		j.required(p, "write %s: %s", p, want)
	} else if *value != want {
		j.invalid(p, *value, "this version reads %s only", want)
	}
}
