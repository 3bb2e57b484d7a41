// SPDX-License-Identifier: Apache-2.0

package e2e

// Users and capabilities: what a node keeps of them once its sockets are open,
// in each of its threads, and what it does with no more than that.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────────
//	  │     │     │     │
//	  1     2     3     4       192.0.2.N

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const privilegeVNI vxlan.VNI = 80

// A user and a group that the machine does not know.
const (
	otherUser  = 64321
	otherGroup = 64322
)

// becomes is the configuration for that user and group.
var becomes = fmt.Sprintf("user = %d\ngroup = %d", otherUser, otherGroup)

const (
	netRaw = 1 << unix.CAP_NET_RAW
	none   = 0
)

// privileges are the lines about them in a thread's status in /proc, by name
// (proc_pid_status(5)).
type privileges map[string]string

func readPrivileges(name string) (privileges, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p := make(privileges)
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs":
			p[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	return p, nil
}

func capabilities(set uint64) string { return fmt.Sprintf("%016x", set) }

// confined returns the privileges of a user that has a set of capabilities and
// can gain none. Its bounding set is the same, since root has made it so.
func confined(uid, gid int, groups string, set uint64) privileges {
	// Real, effective, saved, and of the file system.
	ids := func(id int) string { return fmt.Sprint(id, id, id, id) }
	return privileges{
		"Uid": ids(uid), "Gid": ids(gid), "Groups": groups,
		"CapPrm": capabilities(set), "CapEff": capabilities(set), "CapBnd": capabilities(set),
		"CapInh": capabilities(none), "CapAmb": capabilities(none), "NoNewPrivs": "1",
	}
}

// unbounded returns p with the bounding set of this process, which only root
// may reduce: with no_new_privs nothing comes of it.
func unbounded(t *testing.T, p privileges) privileges {
	t.Helper()
	p["CapBnd"] = must(readPrivileges("/proc/self/status"))(t)["CapBnd"]
	return p
}

// wantPrivileges fails the test unless each thread of the node has them. It
// returns the threads.
func (n *node) wantPrivileges(want privileges) (tids []string) {
	t := n.lab.t
	t.Helper()
	for _, name := range must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", n.proc.PID())))(t) {
		got, err := readPrivileges(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // ended
		}
		check(t, err)
		tids = append(tids, filepath.Base(filepath.Dir(name)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(tids) < 3 {
		t.Errorf("got threads %v, want more", tids)
	}
	return tids
}

// rootGroups returns root's supplementary groups as /proc has them.
func rootGroups(t *testing.T) string {
	t.Helper()
	var ids []int
	for _, g := range must(must(user.Lookup("root"))(t).GroupIds())(t) {
		ids = append(ids, must(strconv.Atoi(g))(t))
	}
	slices.Sort(ids)
	return strings.Trim(fmt.Sprint(ids), "[]")
}

// Whoever starts it, a node that floods by raw ends up with CAP_NET_RAW at most
// and serves.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	const warning = "user and group stay as they are: not started as root"
	root := func(t *testing.T, _ ...uintptr) *exec.Cmd { return exec.Command(program(t)) }
	tests := []struct {
		name    string
		command func(t *testing.T, ambient ...uintptr) *exec.Cmd
		ambient []uintptr
		args    []string
		config  string
		want    func(t *testing.T) privileges
		says    string
	}{
		{name: "root becomes a user", command: root, config: becomes, says: "goes on as an unprivileged user",
			want: func(*testing.T) privileges { return confined(otherUser, otherGroup, fmt.Sprint(otherGroup), netRaw) }},
		{name: "root becomes a user and floods nothing", command: root, config: becomes, args: []string{"-R"},
			want: func(*testing.T) privileges { return confined(otherUser, otherGroup, fmt.Sprint(otherGroup), none) }},
		{name: "root stays root", command: root, config: "user = root",
			want: func(t *testing.T) privileges { return confined(0, 0, rootGroups(t), netRaw) }},
		{name: "root stays root and floods nothing", command: root, config: "user = root", args: []string{"-R"},
			want: func(t *testing.T) privileges { return confined(0, 0, rootGroups(t), none) }},

		{name: "user", command: asNobody, ambient: []uintptr{unix.CAP_NET_RAW},
			want: func(t *testing.T) privileges { return unbounded(t, confined(nobody, nobody, "", netRaw)) }},
		{name: "user with too much", command: asNobody, ambient: []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_SETUID},
			want: func(t *testing.T) privileges { return unbounded(t, confined(nobody, nobody, "", netRaw)) }},
		{name: "user that floods nothing", command: asNobody, ambient: []uintptr{unix.CAP_NET_RAW}, args: []string{"-R"},
			want: func(t *testing.T) privileges { return unbounded(t, confined(nobody, nobody, "", none)) }},
		{name: "user, and another is named", command: asNobody, ambient: []uintptr{unix.CAP_NET_RAW}, config: becomes, says: warning,
			want: func(t *testing.T) privileges { return unbounded(t, confined(nobody, nobody, "", netRaw)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := engineRaw.lab(t, 0)
			vs := l.vteps(3)
			n := l.idle()
			cmd := tt.command(t, tt.ambient...)
			cmd.Args = append(cmd.Args, tt.args...)
			n.startAs(cmd, tt.config, "workers = 2", markerConfig(vs...), memberConfig([]vxlan.VNI{privilegeVNI}, vs[1]))
			want := tt.want(t)
			n.wantPrivileges(want)
			if tt.says != "" {
				must(n.proc.WaitLine(within(t), says(tt.says)))(t)
			} else if strings.Contains(n.proc.Output(), warning) {
				t.Errorf("got %q, want no warning of a user", n.proc.Output())
			}
			a := vs[2].agent(n)
			a.register(privilegeVNI, 90, 5)
			if !slices.Contains(tt.args, "-R") {
				wantMember(t, n, vs[0], vs[1], privilegeVNI, true)
				wantMember(t, n, vs[0], vs[2], privilegeVNI, true)
			} else if got := a.ask(privilegeVNI)[privilegeVNI]; len(got) != 2 {
				t.Errorf("got members %v, want two", got)
			}
			n.wantPrivileges(want)
		})
	}
}

// A port below 1024 is bound before the node becomes another user.
func TestLowPortAsUser(t *testing.T) {
	t.Parallel()
	const port = 1001
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	n.start("no_flood = true", becomes, fmt.Sprintf("vxfld_port = %d", port), markerConfig(vs...))
	n.wantPrivileges(confined(otherUser, otherGroup, fmt.Sprint(otherGroup), none))
	a := vs[0].agent(n)
	a.to = netip.AddrPortFrom(n.addr, port)
	a.register(privilegeVNI, 90, 5)
	n.waitMembers(privilegeVNI, a.addr)
}

// A node that has become another user floods all that root would: to members of
// each kind, in fragments, after reloads that open its sockets anew. Threads that
// it starts meanwhile have no more privileges than those before.
func TestFloodsAsUser(t *testing.T) { overEngines(t, testFloodsAsUser) }

func testFloodsAsUser(t *testing.T, e engine) {
	const loadVNI = privilegeVNI + 1 // of its own, so that it is told from the rest
	l := e.lab(t, 0)
	vs := l.vteps(4)
	base := []string{"workers = 2", becomes, markerConfig(vs...), memberConfig([]vxlan.VNI{privilegeVNI, loadVNI}, vs[1])}
	n := l.idle()
	n.start(base...)
	keeps := uint64(netRaw)
	if e == engineTC {
		keeps |= 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN
	}
	want := confined(otherUser, otherGroup, fmt.Sprint(otherGroup), keeps)
	before := n.wantPrivileges(want)

	floods := func(i int, to ...*machine) {
		t.Helper()
		for _, v := range to {
			v.forget()
		}
		in := frame(netlab.Broadcast, i, 5000)
		vs[0].floodLarge(n, privilegeVNI, in)
		for _, v := range to {
			v.await(1)
			wantCopies(t, v, sent{src: vs[0].packet(n, privilegeVNI, in).Src, ttl: 64, vni: privilegeVNI, inner: in})
			if got := len(v.fragments()); got != 4 {
				t.Errorf("got %d fragments of 5000 bytes, want 4", got)
			}
		}
		wantMember(t, n, vs[0], to[0], privilegeVNI, true)
	}
	vs[2].agent(n).register(privilegeVNI, 90, 5)
	vs[3].flood(n, privilegeVNI, frame(netlab.Broadcast, 1, 64))
	n.waitMembers(privilegeVNI, vs[1].addr, vs[2].addr, vs[3].addr)
	floods(2, vs[1:]...)

	for _, m := range []*machine{n.machine, vs[0], vs[1]} {
		check(t, m.cap.Close()) // more than anybody would look at
	}
	stop := vs[0].load(n, loadVNI)
	var g errgroup.Group
	for range 20 {
		g.Go(func() error {
			c, err := control.Dial(within(t), n.file("vxsnd.sock"))
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Call(within(t), control.CommandShow, nil, func(json.RawMessage) error { return nil })
		})
	}
	check(t, g.Wait())
	// The threads of workers end with them. Others that are idle may take their
	// place, until none is left.
	after := before
	for range 20 {
		wantChanges(t, n.reload(append(base, "no_flood = true")...), "no_flood")
		n.wantPrivileges(want)
		wantChanges(t, n.reload(base...), "no_flood")
		copies := must(vs[1].Link("eth0"))(t).ReceivedPackets
		check(t, netlab.Wait(within(t), "copies after the reload", func() bool {
			return must(vs[1].Link("eth0"))(t).ReceivedPackets > copies+1000
		}))
		after = n.wantPrivileges(want)
		if slices.ContainsFunc(after, func(tid string) bool { return !slices.Contains(before, tid) }) {
			break
		}
	}
	if !slices.ContainsFunc(after, func(tid string) bool { return !slices.Contains(before, tid) }) {
		t.Errorf("got threads %v, want one that is new", after)
	}
	stop()
	n.drain()
	floods(3, vs[2:]...)
}

// A node that root starts and that cannot become who it should does not start.
func TestUnknownUser(t *testing.T) {
	t.Parallel()
	const hint = "vxsnd: hint: make that user and group, or name others (user, group)\n"
	tests := []struct{ name, config, want string }{
		{"user", "user = no-such-user", "vxsnd: user no-such-user: not known on this machine\n"},
		{"group", "group = no-such-group\nuser = root", "vxsnd: group no-such-group: not known on this machine\n"},
		{"number without a group", "user = 64321", "vxsnd: user 64321: not known on this machine, so it needs a group\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			p := l.idle().launch(exec.Command(program(t)), tt.config)
			if status := must(p.Wait(within(t)))(t); status != exitConfig {
				t.Errorf("got status %d, want %d", status, exitConfig)
			}
			if got := p.Output(); !strings.Contains(got, tt.want+hint) {
				t.Errorf("got %q, want %q", got, tt.want+hint)
			}
		})
	}
}

// A container may have no more than the program in it: nobody is known there.
func TestWithoutAccounts(t *testing.T) {
	t.Parallel()
	const passwd = "root:x:0:0::/:/\nother:x:64321:64322::/:/\n"
	user := confined(otherUser, otherGroup, fmt.Sprint(otherGroup), netRaw)
	root := confined(0, 0, must(readPrivileges("/proc/self/status"))(t)["Groups"], netRaw)
	tests := []struct {
		name, passwd, config string
		want                 privileges // nil for a refusal
	}{
		{name: "nobody named", want: root},
		{name: "numbers", config: becomes, want: user},
		{name: "number without a group", config: "user = 64321"},
		{name: "name", config: "user = other"},
		{name: "name without groups", passwd: passwd, config: "user = other", want: user},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := engineRaw.lab(t, 0)
			n := l.idle()
			cmd := exec.Command("unshare", "--mount", "sh", "-c",
				`mount -t tmpfs none /etc && if [ "$PASSWD" ]; then echo "$PASSWD" > /etc/passwd; fi && exec "$0" "$@"`, program(t))
			cmd.Env = append(os.Environ(), "PASSWD="+tt.passwd)
			if tt.want != nil {
				n.startAs(cmd, tt.config)
				n.wantPrivileges(tt.want)
				return
			}
			p := n.launch(cmd, tt.config)
			if status := must(p.Wait(within(t)))(t); status != exitConfig || !strings.Contains(p.Output(), "not known on this machine") {
				t.Errorf("got status %d, output %q, want %d for an unknown user", status, p.Output(), exitConfig)
			}
		})
	}
}

// Root of a container may lack what it takes.
func TestRootWithoutCapabilities(t *testing.T) {
	t.Parallel()
	tests := []struct{ lacks, says, hint string }{
		{"setuid", "run as user 64321", "start as root with all its capabilities"},
		{"setgid", "run as user 64321", "start as root with all its capabilities"},
		{"net_raw", "raw socket", "CAP_NET_RAW"},
	}
	for _, tt := range tests {
		t.Run(tt.lacks, func(t *testing.T) {
			t.Parallel()
			l := engineRaw.lab(t, 0)
			cmd := exec.Command("setpriv", "--bounding-set=-"+tt.lacks, program(t))
			wantRefusal(t, l.idle().launch(cmd, becomes), tt.says, tt.hint)
		})
	}
	t.Run("chown", func(t *testing.T) {
		t.Parallel()
		l := engineRaw.lab(t, 0)
		n := l.idle()
		n.startAs(exec.Command("setpriv", "--bounding-set=-chown", program(t)), becomes)
		must(n.proc.WaitLine(within(t), says("management socket stays root's")))(t)
		n.wantPrivileges(confined(otherUser, otherGroup, fmt.Sprint(otherGroup), netRaw))
		n.status()
	})
	// The one for flooding is enough for a node that stays root.
	t.Run("all but one", func(t *testing.T) {
		t.Parallel()
		l := engineRaw.lab(t, 0)
		vs := l.vteps(2)
		n := l.idle()
		n.startAs(exec.Command("setpriv", "--bounding-set=-all,+net_raw", program(t)), "workers = 2",
			markerConfig(vs...), memberConfig([]vxlan.VNI{privilegeVNI}, vs[1]))
		wantMember(t, n, vs[0], vs[1], privilegeVNI, true)
	})
}
