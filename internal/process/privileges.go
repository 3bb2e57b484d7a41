// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// A Capability is one of capabilities(7).
type Capability = cap.Value

const (
	// NetRaw allows raw sockets, and packets with a source address that is not
	// the machine's.
	NetRaw = cap.NET_RAW

	// NetAdmin allows changes to interfaces and addresses, and receive queues
	// beyond net.core.rmem_max.
	NetAdmin = cap.NET_ADMIN

	// BPF allows programs and maps in the kernel (Linux 5.8).
	BPF = cap.BPF
)

// Drop makes every thread run as id, with no more than the capabilities in
// keep, permitted and effective, and with no_new_privs, so that no program that
// is started gains any. Then it looks at all threads and reports what is
// otherwise: the daemon must not go on after an error. It is called once, when
// all that needs privileges is open.
//
// A nil id leaves user and groups as they are. Root stays root then, but
// without its capabilities, so that it cannot even write to the files of others.
// The same holds where the process runs as id already and has the groups that a
// service manager gave it; a change takes CAP_SETUID and CAP_SETGID.
//
// A capability that the process does not have is no error. Neither is a
// system call that is denied, unless the process keeps too much for want of it.
// The bounding set is reduced where CAP_SETPCAP allows that.
func Drop(id *Identity, keep ...Capability) error {
	if id != nil && id.held() {
		id = nil
	}
	want, err := within(keep)
	if err != nil {
		return err
	}
	for c := range cap.MaxBits() {
		if !slices.Contains(keep, c) {
			_ = cap.DropBound(c) // without effect in the end: no_new_privs
		}
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if id != nil {
		if err := id.assume(want); err != nil {
			return fmt.Errorf("run as user %s: %w", id.Name, err)
		}
	}
	var denied error
	if more, err := cap.GetProc().Cf(want); err != nil || more != 0 {
		// It empties the ambient set too, which is part of the inheritable one.
		if denied = want.SetProc(); denied != nil {
			denied = fmt.Errorf("set capabilities: %w", denied)
		}
	}
	if err := checkThreads(id, keep); err != nil {
		return errors.Join(denied, err)
	}
	return nil
}

// within returns the set to aim at: what of keep is permitted.
func within(keep []Capability) (*cap.Set, error) {
	have, want := cap.GetProc(), cap.NewSet()
	for _, c := range keep {
		ok, err := have.GetFlag(cap.Permitted, c)
		if err == nil && ok {
			err = errors.Join(want.SetFlag(cap.Permitted, true, c), want.SetFlag(cap.Effective, true, c))
		}
		if err != nil {
			return nil, fmt.Errorf("capability %v: %w", c, err)
		}
	}
	return want, nil
}

// held tells whether the process runs as id without being root.
func (id *Identity) held() bool {
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	return id.UID != 0 && ruid == id.UID && euid == id.UID && suid == id.UID &&
		rgid == id.GID && egid == id.GID && sgid == id.GID
}

// assume changes user and groups, and keeps what is permitted if any of it is
// wanted.
func (id *Identity) assume(want *cap.Set) error {
	if some, err := want.Cf(cap.NewSet()); err != nil || some != 0 {
		if _, err := cap.Prctlw(unix.PR_SET_KEEPCAPS, 1); err != nil {
			return fmt.Errorf("keep capabilities: %w", err)
		}
		defer func() { _, _ = cap.Prctlw(unix.PR_SET_KEEPCAPS, 0) }()
	}
	// The functions of syscall act on all threads.
	if err := syscall.Setgroups(id.Groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(id.GID, id.GID, id.GID); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(id.UID, id.UID, id.UID); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	return nil
}

// checkThreads reports a thread that is another user's than id, if given, or
// can do more than keep.
func checkThreads(id *Identity, keep []Capability) error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return errors.Join(errors.New("no threads to be seen in /proc"), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // ended
		}
		if err == nil {
			err = checkStatus(string(text), id, keep)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// checkStatus checks what proc_pid_status(5) shows of a thread.
func checkStatus(text string, id *Identity, keep []Capability) error {
	status := make(map[string]string)
	for l := range strings.Lines(text) {
		key, value, _ := strings.Cut(l, ":")
		status[key] = strings.Join(strings.Fields(value), " ")
	}
	var mask uint64
	for _, c := range keep {
		mask |= 1 << c
	}
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		set, err := strconv.ParseUint(status[key], 16, 64)
		if err != nil || set&^mask != 0 {
			return fmt.Errorf("%s is %q, want no more than %x", key, status[key], mask)
		}
	}
	want := map[string]string{"NoNewPrivs": "1"}
	if id != nil {
		// Real, effective, saved, and of the file system.
		want["Uid"] = strings.TrimSpace(strings.Repeat(fmt.Sprint(id.UID, " "), 4))
		want["Gid"] = strings.TrimSpace(strings.Repeat(fmt.Sprint(id.GID, " "), 4))
		groups := slices.Sorted(slices.Values(id.Groups)) // as the kernel has them
		want["Groups"] = strings.Trim(fmt.Sprint(groups), "[]")
	}
	for key, value := range want {
		if status[key] != value {
			return fmt.Errorf("%s is %q, want %q", key, status[key], value)
		}
	}
	return nil
}
