// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"

	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// Commands returns what the management socket answers, but for what is about
// the daemon as a whole. base fills in what an answer to show says of the process.
func (n *Node) Commands(base func() control.Status) []control.Command {
	l := newLister(n.table)
	return []control.Command{
		{Name: control.CommandShow, Run: with(func(ctx context.Context, _ *struct{}, call *control.Call) error {
			n.sync(ctx)
			s := base()
			n.fillStatus(&s)
			return call.Send(&s)
		})},
		{Name: control.CommandPeers, Run: with(func(_ context.Context, _ *struct{}, call *control.Call) error {
			return call.Send(n.shownPeers())
		})},
		{Name: control.CommandFDB, Run: with(func(ctx context.Context, a *control.FDBArgs, call *control.Call) error {
			n.sync(ctx)
			return n.list(ctx, l, a, call.Send)
		})},
		{Name: control.CommandFDBAdd, Changes: true, Run: with(n.addEntry)},
		{Name: control.CommandFDBDel, Changes: true, Run: with(n.deleteEntry)},
		{Name: control.CommandFDBFile, Changes: true, Upload: true, Run: with(n.replaceEntries)},
		{Name: control.CommandVTEP, Run: with(func(ctx context.Context, a *control.VTEPArgs, call *control.Call) error {
			n.sync(ctx)
			return n.showVTEP(ctx, l, a, call.Send)
		})},
		{Name: control.CommandStats, Run: with(n.stats)},
		{Name: control.CommandExplain, Run: with(newExplainer(n).run)},
		{Name: control.CommandCapture, Changes: true, Stream: true, Run: with(n.capture)},
		{Name: control.CommandMonitor, Stream: true, Run: with(n.monitor)},
	}
}

// with returns what runs a command with its arguments.
func with[A any](run func(ctx context.Context, args *A, call *control.Call) error) func(context.Context, *control.Call) error {
	return func(ctx context.Context, call *control.Call) error {
		var args A
		if err := control.DecodeArgs(call.Args, &args); err != nil {
			return err
		}
		return run(ctx, &args, call)
	}
}

// badArgument is the error for an argument that a command does not take.
func badArgument(format string, values ...any) error {
	return &control.Error{Code: control.CodeBadArgument, Text: fmt.Sprintf(format, values...)}
}

// namedVNI returns the VNI of an argument that has to be there.
func namedVNI(v *uint32) (vxlan.VNI, error) {
	if v == nil {
		return 0, badArgument("no vni is named")
	}
	return checkVNI(*v)
}

// checkVNI returns the VNI of an argument.
func checkVNI(v uint32) (vxlan.VNI, error) {
	vni := vxlan.VNI(v)
	if !vni.Valid() {
		return 0, badArgument("vni %d is out of range 0..%d", v, vxlan.MaxVNI)
	}
	return vni, nil
}
