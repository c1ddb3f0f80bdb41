#!/usr/bin/env bash
# Makes a release of what is checked out: a commit and an annotated tag. It pushes nothing. docs/releasing.md says what
# goes before and after.
#
#   hack/release.sh VERSION     such as v0.1.0 or v0.2.0-rc.1
#
# It records what the version leaves in a cluster, which takes the e2e tests' cluster (make e2e). Whatever goes wrong, the
# working tree is afterwards what it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${1:-}
releases=e2e/testdata/releases

refuse() {
  echo "hack/release.sh: $*" >&2
  exit 1
}

number='(0|[1-9][0-9]*)'
part='(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)'
# Semantic Versioning 2.0.0 but for build metadata, whose + no image may have in its tag.
semver="^v$number\.$number\.$number(-$part(\.$part)*)?\$"

[[ -n "$version" ]] || refuse "which version? For example: make release VERSION=v0.1.0"
[[ "$version" =~ $semver ]] || refuse "VERSION=$version is no version: it has to look like v0.1.0 or v0.2.0-rc.1"
if git rev-parse --verify --quiet "refs/tags/$version" >/dev/null; then
  refuse "the tag $version exists already: choose a newer version"
fi
# Only the versions that this one comes after: a branch for 0.1 goes on when there is a 0.2. In the order of sort -V a ~
# goes before the end, as a pre-release goes before its version.
newest=$({ git tag --merged HEAD --list 'v*' | grep -E "$semver" || true; } | tr - '~' | sort -V | tail -n 1 | tr '~' -)
if [[ -n "$newest" && "$(printf '%s\n' "$newest" "$version" | tr - '~' | sort -V | tail -n 1 | tr '~' -)" != "$version" ]]; then
  refuse "$version is not newer than $newest, which is in the history of HEAD: choose a newer version"
fi
dirty=$(git status --porcelain)
[[ -z "$dirty" ]] || refuse "the working tree is not clean: commit, stash or remove these first:"$'\n'"$dirty"

# section NAME prints what CHANGELOG.md says under "## [NAME]", without empty lines around it.
section() {
  awk -v heading="## [$1]" '
    /^## \[/ { inside = index($0, heading) == 1; next }
    inside && (NF || text) { text = text gap $0 "\n"; gap = "" }
    END { sub(/\n+$/, "\n", text); printf "%s", text }' CHANGELOG.md
}
grep -q '^## \[Unreleased\]$' CHANGELOG.md || refuse "CHANGELOG.md has no line \"## [Unreleased]\""
grep -q '^- ' <<<"$(section Unreleased)" ||
  refuse "CHANGELOG.md says nothing under [Unreleased]: what do users notice of $version?"

mapfile -t named < <(git ls-files 'manifests/overlays/*/kustomization.yaml' 'manifests/charts/*/Chart.yaml' 'manifests/charts/*/examples/*.yaml')
changes=(CHANGELOG.md "${named[@]}" "$releases")

# Only these were clean and are this script's: somebody may work in the tree while the tests run.
undo() { git restore --quiet --source HEAD --staged --worktree -- "${changes[@]}" && git clean --quiet -fd -- "$releases"; }
trap undo EXIT

# One moment, so that the section's day is the commit's.
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sed -i "s/^## \[Unreleased\]\$/&\n\n## [${version#v}] - ${now%T*}/" CHANGELOG.md
sed -i -E -e "s/^( *(newTag|tag|appVersion):) v.*/\1 $version/" -e "s/^(version:) .*/\1 ${version#v}/" "${named[@]}"

echo "recording what $version leaves in a cluster, for the test that upgrades from it"
rm -rf "$releases"
mkdir -p "$releases/$version"
MAKEFLAGS='' VERSION=$version RECORD=$PWD/$releases/$version RUN='^TestUpgrade$' make e2e
[[ -n "$(ls -A "$releases/$version")" ]] || refuse "nothing was recorded in $releases/$version"

git add --all -- "${changes[@]}"
others=$(git status --porcelain | grep -v '^[A-Z]  ' || true)
[[ -z "$others" ]] || refuse "the working tree was changed meanwhile, and what was recorded may not be what is released:"$'\n'"$others"
GIT_AUTHOR_DATE=$now GIT_COMMITTER_DATE=$now git commit --quiet --message "Release $version"
trap - EXIT
{
  printf 'Mooring %s\n\n' "$version"
  section "${version#v}"
} | GIT_COMMITTER_DATE=$now git tag --annotate --cleanup=verbatim --file - "$version"

cat <<END

$version is committed and tagged here and nowhere else. Look at it:   git show $version
Publish it:                                                git push origin HEAD $version
Then the images, from this commit:                         make image IMAGE_PREFIX=<registry/name> PUSH=1
Or take it back:                                           git tag --delete $version && git reset --hard HEAD~1
END
