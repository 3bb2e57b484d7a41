// SPDX-License-Identifier: Apache-2.0

package e2e

// vxsndctl asks nodes: what it prints, whom they let in, and what it says where
// there is no answer.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	controlVNI vxlan.VNI = 10

	// controlID is an identifier that does not fit a signed number.
	controlID uint64 = 1<<63 + 5
)

// ctlLink makes the name under which the program is vxsndctl, once.
var ctlLink = sync.OnceValues(func() (string, error) {
	file, err := build()
	if err != nil {
		return "", err
	}
	link := filepath.Join(binaryDir, "vxsndctl")
	return link, os.Symlink(file, link)
})

// A ctl is a vxsndctl that runs.
type ctl struct {
	*netlab.Process
	t      *testing.T
	stderr *bytes.Buffer // complete when it has ended
}

// ctl starts vxsndctl for the node.
func (n *node) ctl(args ...string) *ctl {
	n.lab.t.Helper()
	return n.runCtl(exec.Command(must(ctlLink())(n.lab.t), append([]string{"-u", n.file("vxsnd.sock")}, args...)...))
}

// runCtl starts a command that is vxsndctl.
func (n *node) runCtl(cmd *exec.Cmd) *ctl {
	n.lab.t.Helper()
	c := &ctl{t: n.lab.t, stderr: new(bytes.Buffer)}
	cmd.Stderr = c.stderr
	c.Process = must(n.Start(cmd))(n.lab.t)
	return c
}

// printed waits for the end, which must be a good one, and returns the output.
func (c *ctl) printed() string {
	c.t.Helper()
	if status := must(c.Wait(within(c.t)))(c.t); status != 0 || c.stderr.Len() > 0 {
		c.t.Errorf("got status %d and %q, want 0 and silence", status, c.stderr)
	}
	return c.Output()
}

// refused waits for the end, which must be with status 1 and two lines: one
// that says why, with these words, and one that is this hint.
func (c *ctl) refused(hint string, words ...string) {
	c.t.Helper()
	status := must(c.Wait(within(c.t)))(c.t)
	why, rest, _ := strings.Cut(c.stderr.String(), "\n")
	if status != 1 || !strings.HasPrefix(why, "vxsndctl: ") || rest != "vxsndctl: hint: "+hint+"\n" {
		c.t.Errorf("got status %d and %q, want 1, why, and the hint %q", status, c.stderr, hint)
	}
	for _, w := range words {
		if !strings.Contains(why, w) {
			c.t.Errorf("got %q, want it to say %q", why, w)
		}
	}
}

// placeholder is {300} for at most 300 seconds left, or {} for any text.
var placeholder = regexp.MustCompile(`\\\{(\d*)\\\}`)

// blanks are blanks in a row.
var blanks = regexp.MustCompile(` +`)

// wantText fails the test unless a text is the one wanted, which may have
// placeholders.
func wantText(t *testing.T, got, want string) {
	t.Helper()
	quoted := regexp.QuoteMeta(want)
	holders := placeholder.FindAllStringSubmatch(quoted, -1)
	values := regexp.MustCompile("^" + placeholder.ReplaceAllString(quoted, "(.*)") + "$").FindStringSubmatch(got)
	if values == nil {
		t.Errorf("got\n%s\nwant\n%s", got, want)
		return
	}
	for i, h := range holders {
		if h[1] == "" {
			continue
		}
		most, left := must(strconv.Atoi(h[1]))(t), must(strconv.Atoi(values[i+1]))(t)
		if left > most || left < most-int(patience.Seconds()) {
			t.Errorf("got %d seconds left, want about %d, in\n%s", left, most, got)
		}
	}
}

// Each source of members, and one that has two, in each of the three formats.
func TestControlPrintsMembers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("holdtime = 60", markerConfig(vs...), memberConfig([]vxlan.VNI{controlVNI}, vs[0]))
	vs[0].agent(n).register(controlVNI, 200, controlID)
	vs[1].agent(n).register(controlVNI, 300, 7)
	vs[2].flood(n, controlVNI, frame(netlab.Broadcast, 1, 64))
	n.waitMembers(controlVNI, vs[0].addr, vs[1].addr, vs[2].addr)

	// Blanks in a row count as one: how wide columns are is not what this is about.
	const head = "VNI Address Ageout Source NodeId Heard\n=== ======= ====== ====== ====== =====\n"
	const textOne = "10 192.0.2.1 {200} registration 9223372036854775813 {}\n" +
		" 192.0.2.1 STATIC configuration - -\n" +
		" 192.0.2.2 {300} registration 7 {}\n" +
		" 192.0.2.3 {60} data - {}\n"
	const textOther = "16777214 192.0.2.1 STATIC configuration - -\n" +
		" 192.0.2.2 STATIC configuration - -\n" +
		" 192.0.2.3 STATIC configuration - -\n"
	const deployedOne = `"10": [["192.0.2.1", "{200}", "9223372036854775813"], ["192.0.2.1", "STATIC", ""], ` +
		`["192.0.2.2", "{300}", "7"], ["192.0.2.3", "{60}", ""]]`
	const deployedOther = `"16777214": [["192.0.2.1", "STATIC", ""], ["192.0.2.2", "STATIC", ""], ["192.0.2.3", "STATIC", ""]]`
	const fullOne = `{"vni":10,"address":"192.0.2.1","source":"registration","seconds":{200},"identifier":"9223372036854775813","last_heard":{}},
{"vni":10,"address":"192.0.2.1","source":"configuration","seconds":null,"last_heard":null},
{"vni":10,"address":"192.0.2.2","source":"registration","seconds":{300},"identifier":"7","last_heard":{}},
{"vni":10,"address":"192.0.2.3","source":"data","seconds":{60},"last_heard":{}}`
	const fullOther = `{"vni":16777214,"address":"192.0.2.1","source":"configuration","seconds":null,"last_heard":null},
{"vni":16777214,"address":"192.0.2.2","source":"configuration","seconds":null,"last_heard":null},
{"vni":16777214,"address":"192.0.2.3","source":"configuration","seconds":null,"last_heard":null}`
	tests := []struct {
		name, args, want string
	}{
		{"text", "fdb", head + textOne + textOther},
		{"text of one", "fdb 10", head + textOne},
		{"text of none", "fdb 11", head + "Empty\n"},
		{"deployed", "fdb -j", "{" + deployedOne + ", " + deployedOther + "}\n"},
		{"deployed of one", "-j fdb 10", "{" + deployedOne + "}\n"},
		{"deployed of none", "fdb 11 -j", "{}\n"},
		{"full", "--json fdb", "[\n" + fullOne + ",\n" + fullOther + "\n]\n"},
		{"full of one", "fdb --json 10", "[\n" + fullOne + "\n]\n"},
		{"full of none", "fdb 16777215 --json", "[]\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			got := n.ctl(args...).printed()
			if strings.HasPrefix(tt.name, "text") {
				got = blanks.ReplaceAllString(got, " ")
			}
			wantText(t, got, tt.want)
			var deployed map[string][][3]string
			if slices.Contains(args, "-j") {
				check(t, json.Unmarshal([]byte(got), &deployed))
			} else if slices.Contains(args, "--json") && !json.Valid([]byte(got)) {
				t.Errorf("got %q, want JSON", got)
			}
		})
	}
}

// What a node says of itself: as text, and as JSON with the same figures.
func TestControlShowsNode(t *testing.T) {
	t.Parallel()
	const packets, size = 5, 64
	l := engineRaw.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("svcnode_ip = "+nodeAddr, "svcnode_peers = 192.0.2.252 192.0.2.251 192.0.2.253 "+nodeAddr,
		"learning = off", memberConfig([]vxlan.VNI{controlVNI}, vs...))
	for i := range packets {
		vs[0].flood(n, controlVNI, frame(netlab.Broadcast, i, size))
	}
	var full map[string]any
	check(t, netlab.Wait(within(t), "all copies counted", func() bool {
		full = nil
		check(t, json.Unmarshal([]byte(n.ctl("show", "--json").printed()), &full))
		return full["copies"] == float64(2*packets)
	}))
	want := map[string]any{
		"program": "vxsnd", "pid": n.proc.PID(), "ready": true, "engine": "raw", "protocol_version": 3,
		"svcnode_ip": nodeAddr, "src_ip": nil, "peers": []string{"192.0.2.252:10001", "192.0.2.251:10001", "192.0.2.253:10001"},
		"vxfld_port": ctlPort, "vxlan_listen_port": dataPort, "vxlan_dest_port": dataPort, "vrf": nil,
		"config_files": []string{n.file("vxsnd.conf")}, "vnis": 1, "members": 3, "entries": 3,
		"packets": packets, "bytes": packets * (size + vxlan.HeaderLen), "copy_bytes": 2 * packets * (size + vxlan.HeaderLen),
		"fragmented": 0, "learned": 0, "loops": 0, "log_lines_lost": 0,
	}
	for key, w := range want {
		got, want := must(json.Marshal(full[key]))(t), must(json.Marshal(w))(t)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %s, want %s", key, got, want)
		}
	}
	if got := full["entries_by_source"].(map[string]any)["configuration"]; got != 3.0 {
		t.Errorf("got %v static entries, want 3", got)
	}
	var short map[string]any
	check(t, json.Unmarshal([]byte(n.ctl("-j", "show").printed()), &short))
	short["uptime_seconds"] = full["uptime_seconds"]
	if fmt.Sprint(short) != fmt.Sprint(full) {
		t.Errorf("got %v with -j, want what --json gives: %v", short, full)
	}
	const head = `Protocol version: 3
Local address      Anycast address    Peer Addresses
=============      ===============    ==============
0.0.0.0            192.0.2.254        192.0.2.251:10001, 192.0.2.252:10001
                                      192.0.2.253:10001
`
	text, _, _ := strings.Cut(n.ctl("show").printed(), "\n  Start-up checks")
	wantText(t, text, head+`
  Daemon:             vxsnd {}, up {}
  Ready:              yes, without the table of a peer: they are asked on
  Engine:             raw
  Peers:              3 unreachable
  Table:              3 entries of 3 members in 1 VNI
  Entries by source:  configuration=3
  Received:           5 packets, 360 bytes
  Sent:               10 copies, 720 bytes
  Dropped:            none
`)
	text, _, _ = strings.Cut(n.ctl("show", "detail").printed(), "\nStart-up checks")
	wantText(t, text, fmt.Sprintf(head+`
Daemon
  Version:            vxsnd {}, process %d
  Started:            {} ago
  Ready:              yes, without the table of a peer: they are asked on
  Engine:             raw
  Control (UDP) port: 10001
  Data (UDP) port:    4789, copies to 4789
  VRF:                none
  Metrics:            not served
  Configuration:      %s
  Log lines lost:     0

Table
  VNIs:               1
  Members:            3
  Entries:            3
  By source:          configuration=3

Data packets
  Received:           5 packets, 360 bytes
  Sent:               10 copies, 720 bytes
  Fragmented:         0 copies
  Learned:            0 members
  Loops:              0
  Dropped:            none
  In queues:          0 bytes received, 0 bytes to send

Control messages
  Received:           none

Peer connections
  Accepted:           none
  Refused:            none
`, n.proc.PID(), n.file("vxsnd.conf")))
}

// A node that floods nothing says so.
func TestControlShowsNodeThatFloodsNothing(t *testing.T) {
	t.Parallel()
	n := newLab(t, 0).node("no_flood = true")
	text := n.ctl("show", "detail").printed()
	if !strings.Contains(text, "  Ready:              yes\n  Engine:             none: the configuration has nothing flooded (no_flood, enable_vxlan_listen)\n") || strings.Contains(text, "Data (UDP) port") {
		t.Errorf("got %q, want a node that is ready, has no engine and no data port", text)
	}
}

// Who is neither root nor the daemon's user nor in its group is refused.
func TestControlIsForOwnerAndGroup(t *testing.T) {
	t.Parallel()
	const uid, gid = 64321, 64322
	n := newLab(t, 0).idle()
	as := func(uid uint32, groups ...uint32) *ctl {
		cmd := exec.Command(must(ctlLink())(t), "-u", n.file("vxsnd.sock"), "show")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: nobody, Groups: groups}}
		return n.runCtl(cmd)
	}
	n.start("user = root")
	as(nobody).refused("use sudo", "permission denied", n.file("vxsnd.sock"))
	as(0).printed()
	n.stop()
	n.start(fmt.Sprintf("user = %d", uid), fmt.Sprintf("group = %d", gid))
	as(nobody).refused(fmt.Sprintf("be in group %d, or use sudo", gid), "permission denied", n.file("vxsnd.sock"))
	as(nobody, gid).printed()
	as(uid).printed()
	as(0).printed()
}

// Where no daemon runs, or none any more, vxsndctl says what to do.
func TestControlWithoutDaemon(t *testing.T) {
	t.Parallel()
	n := newLab(t, 0).node()
	if status := n.end(syscall.SIGKILL); status != -1 {
		t.Fatalf("got status %d, want death by a signal", status)
	}
	const nobodyListens = "nobody listens there: start the daemon, or name the socket that it has"
	for _, args := range [][]string{{"show"}, {"fdb", "--json"}} {
		n.ctl(args...).refused(nobodyListens, n.file("vxsnd.sock"), "connection refused")
	}
	// The file that was left is in the way of nobody.
	n.proc = must(n.Start(exec.Command(program(t), "-u", n.file("vxsnd.sock"), "-c", n.file("vxsnd.conf"), "-l", "stdout")))(t)
	n.ready()
	n.ctl("show").printed()
	n.stop()
	for _, args := range [][]string{{"show"}, {"fdb", "-j"}} {
		n.ctl(args...).refused("start it, or name the socket that it has", "no daemon at "+n.file("vxsnd.sock"))
	}
}

// Without -u the daemon is looked for at its two usual places, in their order;
// one that nobody listens at is no hindrance.
func TestControlFindsDaemon(t *testing.T) {
	t.Parallel()
	n := newLab(t, 0).node()
	// In a mount namespace with a /run of its own. /var/run is a link to it.
	in := func(script string) *ctl {
		cmd := exec.Command("sh", "-ec", "mount -t tmpfs none /run; mkdir /run/vxsnd; "+script+"; exec \"$CTL\" show")
		cmd.Env = append(os.Environ(), "CTL="+must(ctlLink())(t), "SOCKET="+n.file("vxsnd.sock"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		return n.runCtl(cmd)
	}
	in(`ln -s "$SOCKET" /run/vxsnd/vxsnd.sock`).printed()
	in(`ln -s "$SOCKET" /var/run/vxsnd.sock`).printed()
	in(`touch /run/vxsnd/vxsnd.sock; ln -s "$SOCKET" /var/run/vxsnd.sock`).printed()
	in(":").refused("start it, or name the socket that it has", "no daemon at /run/vxsnd/vxsnd.sock or /var/run/vxsnd.sock")
}
