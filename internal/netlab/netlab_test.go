// SPDX-License-Identifier: Apache-2.0

package netlab_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// helperEnv makes the test binary play another part: see TestMain.
const helperEnv = "NETLAB_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "owner":
		os.Exit(ownerMain())
	case "sleeper":
		select {}
	}
}

// ownerMain makes a lab with a process in it, says so and waits to be killed.
func ownerMain() int {
	l := netlab.New()
	n, err := l.Namespace("doomed")
	if err != nil {
		return 1
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=sleeper")
	p, err := n.Start(cmd)
	if err != nil {
		return 1
	}
	println("sleeper", p.PID())
	select {}
}

// within returns a context for waiting: long enough for a busy machine.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}

// host describes what a lab must not change.
type host struct {
	Links, Named, Mounts []string
	Namespace            string
}

func hostState(t *testing.T) host {
	t.Helper()
	var h host
	ls, err := netlink.LinkList()
	check(t, err)
	for _, l := range ls {
		h.Links = append(h.Links, l.Attrs().Name)
	}
	for _, dir := range []string{"/run/netns", "/var/run/netns"} {
		names, _ := filepath.Glob(dir + "/*")
		h.Named = append(h.Named, names...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	check(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "nsfs") {
			h.Mounts = append(h.Mounts, line)
		}
	}
	h.Namespace, err = os.Readlink("/proc/self/ns/net")
	check(t, err)
	return h
}

func TestLabLeavesNothingOnTheHost(t *testing.T) {
	netlab.Need(t)
	before := hostState(t)
	boom := errors.New("boom")

	tests := []struct {
		name string
		f    func() error
		want string // of what is raised, empty for none
	}{
		{name: "ordinary", f: func() error { return boom }},
		{name: "panic", f: func() error { panic("in the lab") }, want: "in the lab"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := netlab.New()
			a := must(l.Namespace("a"))(t)
			b := must(l.Namespace("b"))(t)
			check(t, netlab.Veth(a, "eth0", b, "eth0", 0))
			func() {
				defer func() {
					switch r := recover().(type) {
					case nil:
						if tt.want != "" {
							t.Errorf("got no panic, want %q", tt.want)
						}
					case string:
						if tt.want == "" || !strings.Contains(r, tt.want) || !strings.Contains(r, "netlab_test.go") {
							t.Errorf("got panic %q, want %q with its stack", r, tt.want)
						}
					default:
						t.Errorf("got panic %v, want a string", r)
					}
				}()
				if err := a.Do(tt.f); !errors.Is(err, boom) {
					t.Errorf("got error %v, want %v", err, boom)
				}
			}()
			if diff := cmp.Diff(before, hostState(t)); diff != "" {
				t.Errorf("host while the lab is up (-want +got):\n%s", diff)
			}
			check(t, l.Close())
			if diff := cmp.Diff(before, hostState(t)); diff != "" {
				t.Errorf("host after the lab (-want +got):\n%s", diff)
			}
			if _, err := l.Namespace("late"); err == nil {
				t.Error("got a namespace of a closed lab, want an error")
			}
		})
	}
}

// Every thread of the process is where it was, also after many entries at once.
func TestDoRestoresThreads(t *testing.T) {
	l := netlab.Test(t)
	n := must(l.Namespace("n"))(t)
	inode := must(n.Inode())(t)
	done := make(chan error)
	const parallel = 32
	for range parallel {
		go func() {
			done <- n.Do(func() error {
				var st unix.Stat_t
				if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
					return err
				}
				if st.Ino != inode {
					return errors.New("not in the namespace")
				}
				runtime.Gosched()
				// A nested entry, of the same namespace.
				return n.Do(func() error { return nil })
			})
		}()
	}
	for range parallel {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	home := hostState(t).Namespace
	tasks := must(filepath.Glob("/proc/self/task/*/ns/net"))(t)
	for _, task := range tasks {
		if got, err := os.Readlink(task); err == nil && got != home {
			t.Errorf("%s: got %s, want %s", task, got, home)
		}
	}
}

// FailNow in Do ends the test's goroutine, not just that of Do.
func TestDoPassesGoexitOn(t *testing.T) {
	l := netlab.Test(t)
	n := must(l.Namespace("n"))(t)
	ended := make(chan bool)
	go func() {
		returned := false
		defer func() { ended <- returned }()
		_ = n.Do(func() error {
			runtime.Goexit()
			return nil
		})
		returned = true
	}()
	if <-ended {
		t.Error("got a return from Do, want the goroutine to end")
	}
}

func TestNamespacesHaveTheirOwnSettings(t *testing.T) {
	l := netlab.Test(t)
	a := must(l.Namespace("a"))(t)
	b := must(l.Namespace("b"))(t)
	check(t, a.SetSysctl("net.ipv4.ip_forward", "1"))
	if got := must(a.Sysctl("net.ipv4.ip_forward"))(t); got != "1" {
		t.Errorf("got %s, want 1", got)
	}
	if got := must(b.Sysctl("net.ipv4.ip_forward"))(t); got != "0" {
		t.Errorf("got %s in the other namespace, want 0", got)
	}
	if err := a.SetSysctl("net.ipv4.no_such_key", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	links := must(a.Links())(t)
	if len(links) != 1 || links[0].Name != "lo" {
		t.Errorf("got %v, want lo alone", links)
	}
}

func TestProcess(t *testing.T) {
	l := netlab.Test(t)
	n := must(l.Namespace("n"))(t)
	out, err := n.Run(exec.Command("readlink", "/proc/self/ns/net"))
	check(t, err)
	if home := hostState(t).Namespace; strings.TrimSpace(out) == home || !strings.HasPrefix(out, "net:[") {
		t.Errorf("got %q, want another namespace than %s", out, home)
	}

	p := must(n.Start(exec.Command("sh", "-c", "trap 'echo bye; exit 7' TERM; echo one; echo two >&2; while :; do sleep 0.01; done")))(t)
	line := must(p.WaitLine(within(t), func(s string) bool { return s == "two" }))(t)
	if line != "two" {
		t.Errorf("got %q, want two", line)
	}
	status := must(p.Stop(within(t)))(t)
	if status != 7 {
		t.Errorf("got status %d, want 7", status)
	}
	if got, want := p.Output(), "one\ntwo\nbye\n"; got != want {
		t.Errorf("got output %q, want %q", got, want)
	}
	if _, err := p.WaitLine(within(t), func(s string) bool { return s == "three" }); err == nil {
		t.Error("got a line that was never written")
	}
}

// A process of a lab goes with the lab, and with the owner of the lab even if
// that is killed.
func TestProcessesDieWithTheirOwner(t *testing.T) {
	l := netlab.Test(t)
	n := must(l.Namespace("n"))(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=owner")
	owner := must(n.Start(cmd))(t)
	line := must(owner.WaitLine(within(t), func(s string) bool { return strings.HasPrefix(s, "sleeper ") }))(t)
	stat := filepath.Join("/proc", strings.TrimPrefix(line, "sleeper "), "stat")
	must(os.Stat(stat))(t)
	check(t, owner.Signal(syscall.SIGKILL))
	must(owner.Wait(within(t)))(t)
	check(t, netlab.Wait(within(t), "the end of the owner's process", func() bool {
		b, err := os.ReadFile(stat)
		return err != nil || slices.Contains(strings.Fields(string(b)), "Z")
	}))
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := netlab.Wait(ctx, "nothing", func() bool { return false })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v, want %v with what was waited for", err, context.Canceled)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
