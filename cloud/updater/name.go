package updater

import (
	"fmt"
	"strings"
)

const (
	// clusterPart and uidPart are how many bytes of the cluster's name and UID a backend's name has.
	clusterPart, uidPart = 40, 8
)

// Prefix is what the names of all backends of a cluster begin with: its name, for people, and the first eight of the UID
// of its kube-system namespace, which no other cluster has. What may not stand in a name becomes a dash.
func Prefix(cluster, uid string) string {
	return fmt.Sprintf("%.*s-%.*s_", clusterPart, plain(cluster), uidPart, plain(uid))
}

// Name of the backend on a port. It follows from the port alone, so whoever has the port next overwrites the file, and two
// files with one port cannot come to be.
func Name(prefix string, k Key) string {
	return fmt.Sprintf("%s%d_%s", prefix, k.Port, strings.ToLower(string(k.Protocol)))
}

// plain keeps letters, digits and dashes: an underscore parts a name.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '_' && nameRune(r) {
			return r
		}
		return '-'
	}, s)
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}

// ValidName reports what is wrong with the name of a backend. It becomes the name of a file and a word in it, unescaped.
func ValidName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the backend has no name: write one of letters, digits, _ and -")
	case len(name) > longestName:
		return fmt.Errorf("backend name %.20q... is longer than %d characters: choose a shorter one", name, longestName)
	case strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }):
		return fmt.Errorf("backend name %q has other characters than letters, digits, _ and -: the updater would write them into its file as they are", name)
	}
	return nil
}
