package config

import (
	"maps"
	"slices"
	"strings"

	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const defaultHetznerEndpoint = "https://api.hetzner.cloud/v1"

// reservedLabels are the label prefixes that only Hetzner and Mooring write.
var reservedLabels = []string{"hetzner.cloud/", "mooring.dev/"}

// account judges the default account.
func (j *judge) account(p *field.Path, f *fileAccount) *Account {
	if f.TokenFile == nil {
		j.required(p.Child("tokenFile"), "name the file that holds the API token of the project, such as /etc/mooring/secrets/hcloud-token")
	}
	return &Account{
		TokenFile:      j.secretFile(p.Child("tokenFile"), f.TokenFile),
		Endpoint:       j.httpURL(p.Child("endpoint"), or(f.Endpoint, defaultHetznerEndpoint)),
		ReleaseOrphans: j.word(p.Child("orphans"), f.Orphans, "report", "release") == "release",
	}
}

// hetznerPool judges a pool of Floating IPs. What its own account leaves out is as in the default account.
func (j *judge) hetznerPool(p *field.Path, f *fileHetznerPool, defaultAccount *Account) *HetznerPool {
	account := Account{Endpoint: defaultHetznerEndpoint}
	if defaultAccount != nil {
		account = *defaultAccount
	} else if f.TokenFile == nil {
		j.required(p.Child("tokenFile"), "no account is known: name the file that holds the API token here, or in hetzner.tokenFile at the top for all pools")
	}
	if f.TokenFile != nil {
		account.TokenFile = j.secretFile(p.Child("tokenFile"), f.TokenFile)
	}
	if f.Endpoint != nil {
		account.Endpoint = j.httpURL(p.Child("endpoint"), *f.Endpoint)
		if f.TokenFile == nil {
			j.forbidden(p.Child("endpoint"), "the token of another endpoint is of no use here: write tokenFile too, or remove it")
		}
	}
	pool := &HetznerPool{Account: account, Takeover: or(f.Takeover, false)}
	if f.Ephemeral != nil {
		if f.Takeover != nil {
			j.forbidden(p.Child("takeover"), "an address that is bought with its Service is never taken from another server: it belongs to addresses")
		}
		pool.Ephemeral = j.ephemeral(p.Child("ephemeral"), f.Ephemeral)
	}
	return pool
}

func (j *judge) ephemeral(p *field.Path, f *fileEphemeral) *Ephemeral {
	e := &Ephemeral{
		HomeLocation: or(f.HomeLocation, ""),
		Labels:       f.Labels,
		Retain:       j.word(p.Child("reclaimPolicy"), f.ReclaimPolicy, "Delete", "Retain") == "Retain",
		MaxAddresses: or(f.MaxAddresses, 0),
	}
	at := p.Child("types")
	if len(f.Types) == 0 {
		j.required(at, "say what to buy: [ipv4], [ipv6] or [ipv4, ipv6]")
	}
	for i, t := range f.Types {
		bought := &e.IPv4
		switch t {
		case "ipv4":
		case "ipv6":
			bought = &e.IPv6
		default:
			j.add(field.NotSupported(at.Index(i), t, []string{"ipv4", "ipv6"}))
			continue
		}
		if *bought {
			j.invalid(at.Index(i), t, "stands in the list already: keep one")
		}
		*bought = true
	}
	if f.HomeLocation != nil {
		j.name(p.Child("homeLocation"), e.HomeLocation, validation.IsDNS1123Label(e.HomeLocation), "must be the name of a Hetzner location, such as fsn1")
	}
	at = p.Child("labels")
	j.add(metav1validation.ValidateLabels(f.Labels, at)...)
	for _, key := range slices.Sorted(maps.Keys(f.Labels)) {
		for _, prefix := range reservedLabels {
			if strings.HasPrefix(key, prefix) {
				j.forbidden(at.Key(key), "labels with the prefix %s are not yours to set: choose another", prefix)
			}
		}
	}
	if e.MaxAddresses < 0 {
		j.invalid(p.Child("maxAddresses"), int64(e.MaxAddresses), "must be 0 (no limit) or more")
	}
	return e
}
