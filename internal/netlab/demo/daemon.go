// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// asMachine is what this program is called by when it is to become a daemon of
// the lab: see becomeDaemon.
const asMachine = "vxsnd-demo-machine"

// becomeDaemon makes a machine of its own for a daemon and runs it in its
// place: args are its path and its arguments. The directory of sockets is an
// empty one, so that each daemon has its stock file names and none is in the
// way of those of the host. There are no users but root: one who changes the
// user outlives this program's parent (prctl(2), PR_SET_PDEATHSIG). The caller
// is in a mount namespace that nobody shares.
func becomeDaemon(args []string) error {
	dir, err := runDir()
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount an empty %s: %w", dir, err)
	}
	err = unix.Mount("/dev/null", "/etc/passwd", "", unix.MS_BIND, "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mount an empty /etc/passwd: %w", err)
	}
	return fmt.Errorf("run %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// runDir is the directory of sockets, where /var/run mostly leads.
func runDir() (string, error) { return filepath.EvalSymlinks("/var/run") }

// A daemon is a vxsnd or vxrd that runs on a machine of the lab.
type daemon struct {
	*netlab.Process
	program string // vxsnd or vxrd
	control string // path of its control program
	at      *machine
	socket  string // as this process finds it
	shown   int    // bytes of its output that are on the screen
}

// start shows the command line of a daemon on a machine, unless quiet, runs it,
// and waits until it is ready.
func (l *lab) start(ctx context.Context, at *machine, program string, quiet bool, args ...string) (*daemon, error) {
	path := filepath.Join(l.bin, program)
	if !quiet {
		l.command(at.title(), strings.Join(append([]string{path}, args...), " "))
	}
	dir, err := runDir()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{asMachine, path}, args...)
	// Its own process group: a ^C at the terminal is for us, who stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS}
	d := &daemon{program: program, control: path + "ctl", at: at}
	if d.Process, err = at.Start(cmd); err != nil {
		return nil, err
	}
	d.socket = fmt.Sprintf("/proc/%d/root%s/%s.sock", d.PID(), dir, program)
	l.daemons = append(l.daemons, d)
	return d, until(ctx, program+" to be ready", func() (bool, error) {
		if strings.Contains(d.Output(), "msg=ready") {
			return true, nil
		}
		select {
		case <-d.Done():
			status, _ := d.Wait(ctx)
			return false, fmt.Errorf("%s ended with status %d and did not get ready", program, status)
		default:
			return false, nil
		}
	})
}

// stop stops a daemon, which must end well, and shows how unless quiet.
func (l *lab) stop(ctx context.Context, d *daemon, quiet bool) error {
	if !quiet {
		l.command(d.at.title(), fmt.Sprintf("kill -TERM %d   # %s", d.PID(), d.program))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it has not stopped after %s", patience))
	defer cancel()
	status, err := d.Stop(ctx)
	if !quiet {
		l.showLog(d)
	}
	if err == nil && status != 0 {
		err = fmt.Errorf("%s of %s stopped with status %d, want 0", d.program, d.at.title(), status)
	}
	return err
}

// showLog prints what a daemon has logged and is not on the screen yet.
func (l *lab) showLog(d *daemon) {
	out := d.Output()
	for line := range strings.Lines(out[d.shown:]) {
		l.log(d.at.title(), line)
	}
	d.shown = len(out)
}

// ask returns the answer of a daemon to a command whose answer comes in parts
// (see package control).
func ask[T any](ctx context.Context, d *daemon, command string, args any) (all []T, err error) {
	c, err := control.Dial(ctx, d.socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	err = c.Call(ctx, command, args, func(data json.RawMessage) error {
		var part []T
		err := json.Unmarshal(data, &part)
		all = append(all, part...)
		return err
	})
	return all, err
}

// askOne returns the answer of a daemon to a command that has a single one.
func askOne[T any](ctx context.Context, d *daemon, command string) (one T, err error) {
	c, err := control.Dial(ctx, d.socket)
	if err != nil {
		return one, err
	}
	defer c.Close()
	err = c.Call(ctx, command, nil, func(data json.RawMessage) error { return json.Unmarshal(data, &one) })
	return one, err
}

// typeCtl runs the control program of a daemon, and shows it with what it
// prints. On the daemon's machine it would find the socket by itself.
func (l *lab) typeCtl(ctx context.Context, d *daemon, args ...string) error {
	l.command(d.at.title(), strings.Join(append([]string{d.control}, args...), " "))
	out, err := exec.CommandContext(ctx, d.control, append([]string{"-u", d.socket}, args...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		l.row("%s", strings.TrimSuffix(line, "\n"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.control, err)
	}
	return nil
}

// members returns who is a member of a VNI at the service node, sorted.
func (l *lab) members(ctx context.Context, vni vxlan.VNI) ([]netip.Addr, error) {
	number := uint32(vni)
	es, err := ask[control.FDBEntry](ctx, l.vxsnd, control.CommandFDB, control.FDBArgs{VNI: &number})
	var out []netip.Addr
	for _, e := range es {
		out = append(out, e.Address)
	}
	return slices.Compact(out), err
}

// waitMembers waits until exactly these machines are members of a VNI, and
// whoever floods does so to them.
func (l *lab) waitMembers(ctx context.Context, vni vxlan.VNI, want ...*machine) error {
	var got []netip.Addr
	err := until(ctx, "the members of VNI "+vni.String(), func() (ok bool, err error) {
		got, err = l.members(ctx, vni)
		return slices.Equal(got, addrs(want)), err
	})
	if err != nil {
		return fmt.Errorf("got %s as the members of VNI %s at the service node, want %s: %w", addrList(got), vni, addrList(addrs(want)), err)
	}
	return until(ctx, "the kernel to flood to them", func() (bool, error) {
		s, err := askOne[control.Status](ctx, l.vxsnd, control.CommandShow)
		return s.Kernel == nil || s.Kernel.Pending == 0, err
	})
}
