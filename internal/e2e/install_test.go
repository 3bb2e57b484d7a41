// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/netlab"
)

// hostUnits are the units that ours refers to.
const hostUnits = "/usr/lib/systemd/system"

// install runs make install into a directory of the test and returns it. What
// the build makes is taken as it is.
func install(t *testing.T, vars ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	installTo(t, root, vars...)
	return root
}

func installTo(t *testing.T, root string, vars ...string) {
	t.Helper()
	args := append([]string{"-C", "../..", "-o", "build", "install", "DESTDIR=" + root, "BIN=" + program(t)}, vars...)
	cmd := exec.CommandContext(within(t), "make", args...)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=") // of the make that runs this test
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
}

// systemd runs one of systemd's tools and returns its output. The test is
// skipped where there is none.
func systemd(t *testing.T, tool string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		netlab.Lacks(t, "systemd", err)
	}
	out, err := exec.CommandContext(within(t), tool, args...).CombinedOutput()
	return string(out), err
}

func TestInstall(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		vars   []string
		prefix string // what the files are below
		etc    string
	}{
		{name: "default", prefix: "/usr/local", etc: "/etc"},
		{name: "as a package", vars: []string{"PREFIX=/usr", "SYSCONF=/usr/etc"}, prefix: "/usr", etc: "/usr/etc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := install(t, tt.vars...)
			want := map[string]fs.FileMode{
				tt.prefix + "/sbin/vxsnd": 0o755,
				tt.prefix + "/share/doc/vxsnd/examples/vxsnd.service.d/anycast.conf":     0o644,
				tt.prefix + "/share/doc/vxsnd/examples/vxsnd.service.d/tc.conf":          0o644,
				tt.prefix + "/share/doc/vxsnd/examples/vxrd.service.d/unprivileged.conf": 0o644,
				tt.prefix + "/share/doc/vxsnd/examples/vxsnd.json":                       0o644,
				tt.prefix + "/share/doc/vxsnd/examples/vxsnd.rules.yml":                  0o644,
				tt.prefix + "/share/doc/vxsnd/examples/vxsnd.rules.test.yml":             0o644,
			}
			for _, link := range []string{"vxrd", "vxsndctl", "vxrdctl"} {
				want[tt.prefix+"/sbin/"+link+" -> vxsnd"] = fs.ModeSymlink | 0o777
			}
			for _, program := range []string{"vxsndctl", "vxrdctl"} {
				for _, name := range []string{"bash-completion/completions/" + program, "zsh/site-functions/_" + program, "fish/vendor_completions.d/" + program + ".fish"} {
					want[tt.prefix+"/share/"+name] = 0o644
				}
			}
			for _, daemon := range []string{"vxsnd", "vxrd"} {
				want[tt.etc+"/"+daemon+".conf"] = 0o644
				want[tt.prefix+"/lib/systemd/system/"+daemon+".service"] = 0o644
				want[tt.prefix+"/lib/sysusers.d/"+daemon+".conf"] = 0o644
			}
			for _, section := range []string{"5", "8"} {
				for _, f := range must(filepath.Glob("../../docs/*." + section))(t) {
					want[tt.prefix+"/share/man/man"+section+"/"+filepath.Base(f)] = 0o644
				}
			}
			got := make(map[string]fs.FileMode)
			check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				name := strings.TrimPrefix(path, root)
				if to, err := os.Readlink(path); err == nil {
					name += " -> " + to
				}
				got[name] = info.Mode()
				return nil
			}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("installed files (-want +got):\n%s", diff)
			}
			wantUnitFiles(t, root, tt.prefix, "vxsnd")
			wantUnitFiles(t, root, tt.prefix, "vxrd")
		})
	}
}

// wantUnitFiles fails the test unless all programs and manual pages that the
// unit of a daemon names are installed, or the machine's.
func wantUnitFiles(t *testing.T, root, prefix, daemon string) {
	t.Helper()
	text := string(must(os.ReadFile(root + prefix + "/lib/systemd/system/" + daemon + ".service"))(t))
	used := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^Exec\w+=[-+!:@]*(/\S+)`).FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
	}
	delete(used, "/bin/kill")
	got := slices.Sorted(maps.Keys(used))
	// The program may be a link, and what it points at is run.
	want := slices.Compact([]string{prefix + "/sbin/" + daemon, prefix + "/sbin/vxsnd"})
	if !slices.Equal(got, want) {
		t.Errorf("got programs %q in the unit, want %q and /bin/kill", got, want)
	}
	if !strings.Contains(text, "\nExecPaths="+prefix+"/sbin/vxsnd ") {
		t.Errorf("the unit may not run %s/sbin/vxsnd", prefix)
	}
	pages := regexp.MustCompile(`man:(\S+)\((\d)\)`).FindAllStringSubmatch(text, -1)
	if len(pages) == 0 {
		t.Error("got no manual page in the unit")
	}
	for _, m := range pages {
		_, err := os.Stat(fmt.Sprintf("%s%s/share/man/man%s/%s.%s", root, prefix, m[2], m[1], m[2]))
		check(t, err)
	}
}

// An operator's configuration outlives an upgrade.
func TestInstallKeepsConfiguration(t *testing.T) {
	t.Parallel()
	root := install(t)
	files := []string{root + "/etc/vxsnd.conf", root + "/etc/vxrd.conf"}
	const mine = "loglevel = debug\n"
	for _, file := range files {
		check(t, os.WriteFile(file, []byte(mine), 0o600))
	}
	installTo(t, root)
	for _, file := range files {
		if got := string(must(os.ReadFile(file))(t)); got != mine {
			t.Errorf("got configuration %q, want %q", got, mine)
		}
	}
}

// units are the units alone and with their drop-ins.
var units = []struct {
	name   string
	unit   string
	dropIn string
}{
	{name: "alone", unit: "vxsnd.service"},
	{name: "with drop-in", unit: "vxsnd.service", dropIn: "anycast.conf"},
	{name: "with drop-in of tc", unit: "vxsnd.service", dropIn: "tc.conf"},
	{name: "vxrd", unit: "vxrd.service"},
	{name: "vxrd with drop-in", unit: "vxrd.service", dropIn: "unprivileged.conf"},
}

// installUnit installs everything, with a drop-in of the examples put to use.
func installUnit(t *testing.T, unit, dropIn string) (root string) {
	t.Helper()
	root = install(t)
	if dropIn != "" {
		file := "/" + unit + ".d/" + dropIn
		text := must(os.ReadFile(root + "/usr/local/share/doc/vxsnd/examples" + file))(t)
		check(t, os.MkdirAll(root+"/etc/systemd/system/"+unit+".d", 0o755))
		check(t, os.WriteFile(root+"/etc/systemd/system"+file, text, 0o644))
	}
	return root
}

func TestUnitIsCorrect(t *testing.T) {
	t.Parallel()
	for _, tt := range units {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := installUnit(t, tt.unit, tt.dropIn)
			verify := func() (string, error) {
				return systemd(t, "systemd-analyze", "verify", "--root="+root, "--man=no", "--recursive-errors=no", tt.unit)
			}
			if _, err := os.Stat(hostUnits); err != nil {
				netlab.Lacks(t, "systemd", err)
			}
			check(t, os.CopyFS(root+hostUnits, os.DirFS(hostUnits)))
			if out, err := verify(); err != nil || strings.Contains(out, "vxsnd") || strings.Contains(out, "vxrd") {
				t.Errorf("verify: got %v, want nothing to say about the unit:\n%s", err, out)
			}
			// It does look at the unit.
			unit := root + "/usr/local/lib/systemd/system/" + tt.unit
			text := must(os.ReadFile(unit))(t)
			check(t, os.WriteFile(unit, append(text, "NoSuchOption=1\n"...), 0o644))
			if out, err := verify(); err == nil || !strings.Contains(out, "NoSuchOption") {
				t.Errorf("verify: got %v for an option that does not exist, want an error:\n%s", err, out)
			}
		})
	}
}

func TestUnitIsConfined(t *testing.T) {
	t.Parallel()
	for _, tt := range units {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := installUnit(t, tt.unit, tt.dropIn)
			out, err := systemd(t, "systemd-analyze", "security", "--root="+root, "--offline=true", "--no-pager",
				"--threshold=20", tt.unit) // in tenths
			if err != nil || !strings.Contains(out, "Overall exposure level for "+tt.unit) {
				t.Errorf("got %v, want an exposure of 2.0 or less:\n%s", err, out)
			}
		})
	}
}

func TestServiceUser(t *testing.T) {
	t.Parallel()
	root := install(t)
	out, err := systemd(t, "systemd-sysusers", "--root="+root, "--dry-run")
	for _, want := range []string{"Creating group 'vxsnd'", "Creating user 'vxsnd'", "Creating group 'vxrd'", "Creating user 'vxrd'"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("got %v, want %q:\n%s", err, want, out)
		}
	}
}
