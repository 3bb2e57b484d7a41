// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"vxsnd/internal/netlab"
	"vxsnd/internal/process"
)

// threads is how many threads a process has locked before and after Drop.
const threads = 4

// A plan is what the role drop does.
type plan struct {
	ID       *process.Identity
	Keep     []process.Capability
	NoCapset bool // the system call is denied
}

// drop is the role of a process with many threads that gives up privileges as
// its argument says.
func drop() error {
	var p plan
	if err := json.Unmarshal([]byte(os.Args[1]), &p); err != nil {
		return err
	}
	if p.NoCapset {
		if err := denyCapset(); err != nil {
			return err
		}
	}
	if err := startThreads(); err != nil {
		return err
	}
	err := process.Drop(p.ID, p.Keep...)
	if e := startThreads(); e != nil {
		return e
	}
	if err == nil {
		fmt.Println("ok")
	} else {
		fmt.Println(strings.ReplaceAll(err.Error(), "\n", ": "))
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startThreads starts threads, half of which hang in a system call.
func startThreads() error {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	up := make(chan struct{})
	for i := range threads {
		go func() {
			runtime.LockOSThread()
			up <- struct{}{}
			if i%2 == 0 {
				_, _ = syscall.Read(pipe[0], make([]byte, 1))
			}
			select {}
		}()
	}
	for range threads {
		<-up
	}
	return nil
}

// denyCapset makes capset(2) fail with EPERM for the whole process.
func denyCapset() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_CAPSET},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// A status is what /proc shows of a thread.
type status struct {
	UID, GID, Groups        string
	Inh, Prm, Eff, Bnd, Amb string
	NoNewPrivs              string
}

func readStatus(t *testing.T, name string) status {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for l := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(l, ":")
		fields[key] = strings.Join(strings.Fields(value), " ")
	}
	return status{
		UID: fields["Uid"], GID: fields["Gid"], Groups: fields["Groups"],
		Inh: fields["CapInh"], Prm: fields["CapPrm"], Eff: fields["CapEff"], Bnd: fields["CapBnd"], Amb: fields["CapAmb"],
		NoNewPrivs: fields["NoNewPrivs"],
	}
}

// caps writes a set as /proc does.
func caps(values ...process.Capability) string {
	var mask uint64
	for _, v := range values {
		mask |= 1 << v
	}
	return fmt.Sprintf("%016x", mask)
}

// ids writes an identity as /proc does.
func ids(id int) string { return fmt.Sprint(id, id, id, id) }

func TestDrop(t *testing.T) {
	if os.Geteuid() != 0 {
		netlab.Lacks(t, "privileges", errors.New("not root"))
	}
	// With root's umask other users might not run it.
	if err := os.Chmod("/proc/self/exe", 0o755); err != nil {
		t.Fatal(err)
	}
	root := readStatus(t, "/proc/self/status")
	none := caps()
	other := &process.Identity{Name: "other", UID: nobody, GID: nobody + 1, Groups: []int{nobody + 3, nobody + 1}}
	// What a service manager makes.
	user := &syscall.Credential{Uid: nobody, Gid: nobody + 1, Groups: []uint32{nobody + 2}}
	dropped := status{UID: ids(nobody), GID: ids(nobody + 1), Groups: fmt.Sprint(nobody+1, nobody+3),
		Inh: none, Prm: none, Eff: none, Bnd: none, Amb: none, NoNewPrivs: "1"}
	started := dropped
	started.Groups, started.Bnd = fmt.Sprint(nobody+2), root.Bnd
	still := dropped
	still.UID, still.GID, still.Groups = root.UID, root.GID, root.Groups
	raw := func(s status, ambient bool, bounding bool) status {
		s.Prm, s.Eff = caps(process.NetRaw), caps(process.NetRaw)
		if ambient {
			s.Inh, s.Amb = s.Prm, s.Prm
		}
		if bounding {
			s.Bnd = s.Prm
		}
		return s
	}
	for _, tt := range []struct {
		name    string
		as      *syscall.Credential
		ambient []process.Capability
		plan    plan
		want    status
		err     string
	}{
		{name: "root becomes a user", plan: plan{ID: other, Keep: []process.Capability{process.NetRaw}},
			want: raw(dropped, false, true)},
		{name: "root becomes a user and keeps nothing", plan: plan{ID: other}, want: dropped},
		{name: "root becomes a user and may not set capabilities", plan: plan{ID: other, NoCapset: true}, want: dropped},
		{name: "root stays", plan: plan{Keep: []process.Capability{process.NetRaw}}, want: raw(still, false, true)},
		{name: "root stays and keeps nothing", plan: plan{}, want: still},
		{name: "root as root", plan: plan{ID: &process.Identity{Name: "root", Groups: []int{7}}},
			want: func() status { s := still; s.Groups = "7"; return s }()},
		{name: "root may not set capabilities", plan: plan{NoCapset: true}, err: "set capabilities: operation not permitted: "},

		{name: "user with two", as: user, ambient: []process.Capability{process.NetRaw, process.NetAdmin},
			plan: plan{Keep: []process.Capability{process.NetRaw}}, want: raw(started, false, false)},
		{name: "user stays the same", as: user, ambient: []process.Capability{process.NetRaw},
			plan: plan{ID: other, Keep: []process.Capability{process.NetRaw, process.NetAdmin}}, want: raw(started, false, false)},
		{name: "user with nothing", as: user, plan: plan{Keep: []process.Capability{process.NetRaw}}, want: started},
		{name: "user becomes another", as: user, plan: plan{ID: &process.Identity{Name: "x", UID: nobody + 9}},
			err: "run as user x: setgroups: operation not permitted"},
		{name: "user may not set capabilities", as: user, plan: plan{NoCapset: true}, want: started},
		{name: "user may not set those to keep", as: user, ambient: []process.Capability{process.NetRaw},
			plan: plan{Keep: []process.Capability{process.NetRaw}, NoCapset: true}, want: raw(started, true, false)},
		{name: "user may not set others", as: user, ambient: []process.Capability{process.NetRaw},
			plan: plan{NoCapset: true}, err: "set capabilities: operation not permitted: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := json.Marshal(tt.plan)
			if err != nil {
				t.Fatal(err)
			}
			cmd := play(t, "drop", string(text))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: tt.as}
			for _, c := range tt.ambient {
				cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, uintptr(c))
			}
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = stdin.Close()
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}()
			line, _ := bufio.NewReader(out).ReadString('\n')
			line = strings.TrimSpace(line)
			if tt.err != "" {
				if !strings.HasPrefix(line, tt.err) {
					t.Errorf("got %q, want %s", line, tt.err)
				}
				return
			}
			if line != "ok" {
				t.Fatalf("got %q, want no error", line)
			}
			tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
			if err != nil || len(tasks) <= 2*threads {
				t.Fatalf("got %d threads, %v, want more than %d", len(tasks), err, 2*threads)
			}
			for _, name := range tasks {
				if diff := cmp.Diff(tt.want, readStatus(t, name)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestLookupIdentity(t *testing.T) {
	for _, tt := range []struct {
		name        string
		user, group string
		want        *process.Identity
		err         string
	}{
		{name: "name", user: "root", want: &process.Identity{Name: "root", Groups: []int{0}}},
		{name: "number of an account", user: "0", want: &process.Identity{Name: "0", Groups: []int{0}}},
		{name: "another group", user: "root", group: "64322",
			want: &process.Identity{Name: "root", GID: 64322, Groups: []int{64322}}},
		{name: "group by name", user: "64321", group: "root", want: &process.Identity{Name: "64321", UID: 64321, Groups: []int{0}}},
		{name: "numbers alone", user: "64321", group: "64322",
			want: &process.Identity{Name: "64321", UID: 64321, GID: 64322, Groups: []int{64322}}},
		{name: "number without a group", user: "64321", err: "user 64321: not known on this machine, so it needs a group"},
		{name: "unknown user", user: "no-such-user", err: "user no-such-user: not known on this machine"},
		{name: "unknown group", user: "root", group: "no-such-group", err: "group no-such-group: not known on this machine"},
		{name: "number that is none", user: "4294967295", group: "0", err: "user 4294967295: not known on this machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := process.LookupIdentity(tt.user, tt.group)
			if tt.err != "" {
				if !errors.Is(err, process.ErrNoUser) || err.Error() != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// A machine may have put root into more groups.
			if tt.want.Name != "64321" && len(got.Groups) > 0 {
				got.Groups = got.Groups[:1]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}
