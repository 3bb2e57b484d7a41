// SPDX-License-Identifier: Apache-2.0

package e2e

// Reloads that cannot be, as a whole or for some of their options.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"os"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/vxlan"
)

// A file with anything wrong changes nothing, and everything that is wrong is
// in the log, by file and line. The next good one is taken.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	n, vs, base := newLab(t, 0).reloading(3, []int{2}, "learning = off")
	good := append(slices.Clone(base), "holdtime = 60", memberConfig([]vxlan.VNI{reloadVNI}, vs[2]))
	n.start(base...)
	file := n.file("vxsnd.conf")
	override := func(text string) {
		t.Helper()
		check(t, os.WriteFile(file+".override", []byte(text), 0o644))
	}
	tests := []struct {
		name string
		make func()
		want []string // what each error begins with, after the file's name
		undo func()
	}{
		{
			name: "several values",
			make: func() {
				n.configure("workers = 1", "holdtime = 0", "learning = maybe", "[vxsnd]", "holdtim = 5", "vtep_membership = 300.1.2.3 7", "vxlan_port = 0")
			},
			want: []string{":2: holdtime: ", ":3: learning: ", ":5: [vxsnd] holdtim: ", ":6: [vxsnd] vtep_membership: ", ":7: [vxsnd] vxlan_port: "},
		},
		{
			name: "a line that is none",
			make: func() { n.configure(append(good, "no value")...) },
			want: []string{":"},
		},
		{
			name: "two options that exclude each other",
			make: func() { n.configure(append(good, "vxfld_port = 4789")...) },
			want: []string{":"},
		},
		{
			name: "the override file",
			make: func() { n.configure(good...); override("oversize = perhaps\n") },
			want: []string{".override:1: oversize: "},
			undo: func() { check(t, os.Remove(file+".override")) },
		},
		{
			name: "missing",
			make: func() { check(t, os.Remove(file)) },
			want: []string{": "},
		},
		{
			// The node has given up the privilege to read all files.
			name: "unreadable",
			make: func() { n.configure(good...); check(t, os.Chmod(file, 0)) },
			want: []string{": "},
		},
		{
			name: "directory",
			make: func() { check(t, os.Remove(file)); check(t, os.Mkdir(file, 0o755)) },
			want: []string{": "},
			undo: func() { check(t, os.Remove(file)) },
		},
		{
			name: "unreadable override file",
			make: func() { n.configure(good...); override("holdtime = 70\n"); check(t, os.Chmod(file+".override", 0)) },
			want: []string{".override: "},
			undo: func() { check(t, os.Remove(file+".override")) },
		},
	}
	before := n.status()
	for _, tt := range tests {
		tt.make()
		got := n.refused()
		matches := func(got, want string) bool { return strings.HasPrefix(got, file+want) }
		if !slices.EqualFunc(got, tt.want, matches) {
			t.Errorf("%s: got %q, want errors that begin with the file's name and %q", tt.name, got, tt.want)
		}
		wantMember(t, n, vs[0], vs[1], reloadVNI, true)
		wantMember(t, n, vs[0], vs[2], reloadVNI, false)
		if s := n.status(); !s.Ready || s.Members != before.Members || s.PID != before.PID {
			t.Errorf("%s: got status %+v, want that of before", tt.name, s)
		}
		if tt.undo != nil {
			tt.undo()
		}
	}
	wantChanges(t, n.reload(good...), "holdtime", "vtep_membership")
	wantMember(t, n, vs[0], vs[2], reloadVNI, true)
}

// What one file may say is bounded: so is what a reload logs.
func TestReloadErrorsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.node()
	n.mishaps = append(n.mishaps, "configuration not reloaded, more is wrong with it")
	n.configure(slices.Repeat([]string{"no_such_option = 1"}, 1000)...)
	if got := n.refused(); len(got) != 32 {
		t.Errorf("got %d errors, want 32", len(got))
	}
	more := with(lines(n.proc.Output()), "configuration not reloaded, more is wrong with it")
	if len(more) != 1 || more[0]["count"] != "968" {
		t.Errorf("got %q, want one line that counts the other 968", more)
	}
}

// Options that need a restart are named, with both values, and left; the
// others of the same file take effect. They are named again until they are set back.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	n, vs, base := engineRaw.lab(t, 0).reloading(3, []int{2}, "learning = off")
	n.start(base...)
	a := vs[2].agent(n)
	other := []string{"pidfile = /var/run/other.pid", "user = nobody", "group = nogroup", "vxfld_port = 10009", "svcnode_ip = 192.0.2.254",
		"src_ip = 192.0.2.254", "enable_vxlan_listen = false", "vxlan_port = 8472", "receive_queue = 65536", "workers = 3", "vrf = red", "holdtime = 60"}
	want := []string{"pidfile", "user", "group", "vxfld_port", "svcnode_ip", "src_ip", "enable_vxlan_listen", "vxlan_port",
		"vxlan_listen_port", "vxlan_dest_port", "receive_queue", "workers", "vrf"}
	for i := range 2 {
		ls := n.reload(append(slices.Clone(base), other...)...)
		named := with(ls, msgRestart)
		if got := values(named, "option"); !slices.Equal(got, want) {
			t.Errorf("got options named %q, want %q", got, want)
		}
		for _, o := range named {
			if o["level"] != "warning" || o["option"] == "vxfld_port" && (o["old"] != "10001" || o["new"] != "10009") {
				t.Errorf("got %q, want a warning with the value of before and of now", o)
			}
		}
		if i == 0 {
			wantChanges(t, ls, "holdtime")
		} else {
			wantChanges(t, ls)
		}
		a.register(reloadVNI+vxlan.VNI(i), 90, 5)
		wantMember(t, n, vs[0], vs[1], reloadVNI, true)
		if s := n.status(); s.Engine != "raw" || s.VXLANListenPort != dataPort || s.VxfldPort != ctlPort || s.SvcnodeIP.IsValid() || s.VRF != "" {
			t.Errorf("got status %+v, want that of before", s)
		}
	}
	ls := n.reload(base...)
	wantChanges(t, ls, "holdtime")
	if got := with(ls, msgRestart); len(got) > 0 {
		t.Errorf("got options named %q after they have been set back, want none", values(got, "option"))
	}
}
