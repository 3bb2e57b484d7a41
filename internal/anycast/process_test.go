// SPDX-License-Identifier: Apache-2.0

package anycast_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/anycast"
	"vxsnd/internal/netlab"
)

// Nobody but the kernel takes the address away here.
func TestProcessIsKilled(t *testing.T) {
	each(t, func(r *rig) {
		p := r.start(child("run", r.addr))
		r.waitThere()
		r.check(p.Signal(syscall.SIGKILL))
		killed := time.Now()
		r.waitGone()
		r.Logf("gone after %v", time.Since(killed))
		r.cleanUp()
		if got := r.routes(); len(got) != 0 {
			r.Errorf("got routes %v after Cleanup, want none", got)
		}
	})
}

func TestProcessIsStopped(t *testing.T) {
	each(t, func(r *rig) {
		p := r.start(child("run", r.addr))
		r.waitThere()
		r.check(p.Signal(syscall.SIGSTOP))
		r.waitGone()
		r.check(p.Signal(syscall.SIGCONT))
		r.waitThere()
	})
}

func TestCheckWithoutCapability(t *testing.T) {
	each(t, func(r *rig) {
		cmd := child("check", r.addr)
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := r.node.Run(cmd)
		if want := "put " + r.addr.String() + " on lo: "; err != nil || !strings.HasPrefix(out, want) {
			r.Errorf("got %v, %q, want one that starts with %q", err, out, want)
		}
	})
}

func TestCheck(t *testing.T) {
	each(t, func(r *rig) {
		r.in(r.a.Check)
		if r.there() || len(r.routes()) != 0 {
			r.Error("got a change, want none")
		}
		for vrf, want := range map[string]string{"nosuchvrf": "look up nosuchvrf: ", "eth0": "look up eth0: not a VRF device"} {
			a := anycast.New(anycast.Options{Addr: r.addr, VRF: vrf})
			if err := r.node.Do(a.Check); err == nil || !strings.HasPrefix(err.Error(), want) {
				r.Errorf("%s: got %v, want %s", vrf, err, want)
			}
		}
	})
}

func (r *rig) start(cmd *exec.Cmd) *netlab.Process {
	r.Helper()
	p, err := r.node.Start(cmd)
	r.check(err)
	return p
}
