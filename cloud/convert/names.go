package convert

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// names are those of pools that are given.
type names map[string]bool

// take gives a pool the name that is wanted, or one like it: names of pools are labels, those of objects may be longer
// and have dots.
func (n names) take(wanted string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(wanted)), "-")
	if name == "" {
		name = "pool"
	}
	if len(name) > validation.DNS1123LabelMaxLength {
		name = shortened(name, fmt.Sprintf("-%.4x", sha256.Sum256([]byte(wanted))))
	}
	unique := name
	for i := 2; n[unique]; i++ {
		unique = shortened(name, fmt.Sprintf("-%d", i))
	}
	n[unique] = true
	return unique
}

// shortened is the name with the suffix, as long as a label may be.
func shortened(name, suffix string) string {
	most := validation.DNS1123LabelMaxLength - len(suffix)
	return strings.TrimRight(name[:min(len(name), most)], "-") + suffix
}
