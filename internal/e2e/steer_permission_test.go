// SPDX-License-Identifier: Apache-2.0

package e2e

// Who may look at a node, and who may change it.

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// changing are commands that change a node, or show what tenants send.
var changing = []string{
	"fdb add 30 192.0.2.1", "fdb file -", "fdb del 30 192.0.2.2", "set config holdtime 77", "set debug on", "reload", "capture 30 -c 1",
}

// Members of the socket's group may look. Root and the user that the node runs as
// may change it, too. Others do not get in. The log says who changed it.
func TestSteerPermission(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	v := l.vtep(1)
	n := l.idle()
	n.logFlags = []string{"-l", "stdout", "-L", "info"}
	n.start(becomes, "holdtime = 60")
	as := func(uid uint32, command string, groups ...uint32) *ctl {
		cmd := exec.Command(must(ctlLink())(t), append([]string{"-u", n.file("vxsnd.sock")}, strings.Fields(command)...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: nobody, Groups: groups}}
		cmd.Stdin = strings.NewReader("30 192.0.2.2\n")
		return n.runCtl(cmd)
	}
	before := decoded[[]control.ConfigValue](n, "get", "config")
	for _, command := range changing {
		as(nobody, command).refused("be in group 64322, or use sudo", "permission denied")
		as(nobody, command, otherGroup).refused("use sudo", "is for root and the owner of the socket")
	}
	for _, command := range []string{"show", "show detail", "peers", "fdb", "vtep 192.0.2.1", "stats -i 0.1", "top -i 0.1 -n 1", "explain 30 192.0.2.1", "get config"} {
		as(nobody, command).refused("be in group 64322, or use sudo", "permission denied")
		as(nobody, command, otherGroup).printed()
	}
	watch := as(nobody, "monitor --json", otherGroup)
	if after := decoded[[]control.ConfigValue](n, "get", "config"); !slices.Equal(before, after) {
		t.Errorf("got the configuration %v after what was refused, want %v", after, before)
	}
	if got := n.status().Entries; got != 0 {
		t.Errorf("got %d entries after what was refused, want none", got)
	}

	for i, uid := range []uint32{0, otherUser} {
		for _, command := range changing {
			c := as(uid, command)
			if strings.HasPrefix(command, "capture") {
				n.waitFor("a packet captured", func() bool {
					v.flood(n, 30, frame(netlab.Broadcast, 1, 64))
					select {
					case <-c.Done():
						return true
					default:
						return false
					}
				})
			}
			if status := must(c.Wait(within(t)))(t); status != 0 {
				t.Errorf("%s as %d: got status %d and %q, want 0", command, uid, status, c.stderr)
			}
			if name, _, _ := strings.Cut(command, " 30"); name == "fdb add" || name == "fdb del" {
				n.waitFor("an audit line", func() bool {
					var logged int
					for _, f := range with(lines(n.proc.Output()), "management command") {
						if f["command"] == strings.ReplaceAll(name, " ", "_") && f["uid"] == fmt.Sprint(uid) {
							logged++
						}
					}
					return logged == 1
				})
			}
		}
		if got, want := n.status().BySource["operator"], 0; got != want {
			t.Errorf("round %d: got %d members of an operator, want %d", i, got, want)
		}
	}
	n.waitFor("events", func() bool { return strings.Contains(watch.Output(), `"source":"operator"`) })
	check(t, watch.Signal(os.Interrupt))
	watch.printed()
}
