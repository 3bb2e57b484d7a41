// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/control"
)

// answering is a command that answers with what answer makes of its arguments, an
// A.
func answering[A, T any](name string, answer func(*A) (T, error)) control.Command {
	return control.Command{Name: name, Changes: true, Run: func(_ context.Context, call *control.Call) error {
		var args A
		if err := control.DecodeArgs(call.Args, &args); err != nil {
			return err
		}
		v, err := answer(&args)
		if err != nil {
			return err
		}
		return call.Send(v)
	}}
}

// streaming is a command that answers with pieces and then, as what ends says,
// ends or goes on until the client leaves.
func streaming(name string, ends error, pieces ...any) control.Command {
	return control.Command{Name: name, Stream: true, Run: func(ctx context.Context, call *control.Call) error {
		for _, p := range pieces {
			if err := call.Send(p); err != nil {
				return err
			}
		}
		if ends == errGoesOn {
			<-ctx.Done()
			return ctx.Err()
		}
		return ends
	}}
}

var errGoesOn = errors.New("goes on")

// steeringCommandsOf answer for a daemon that takes what names 0 for wrong.
func cannedSteering() []control.Command {
	return []control.Command{
		answering(control.CommandFDBAdd, func(e *control.FDBChange) (control.FDBChanged, error) {
			switch e.VNI {
			case 0:
				return control.FDBChanged{}, &control.Error{Code: control.CodeBadArgument, Text: "VNI 0 is reserved", Hint: "take another one"}
			case 1:
				return control.FDBChanged{}, nil
			case 2:
				return control.FDBChanged{Changed: true, Warning: "it is a service node"}, nil
			}
			return control.FDBChanged{Changed: true}, nil
		}),
		answering(control.CommandFDBDel, func(e *control.FDBChange) (control.FDBChanged, error) {
			return control.FDBChanged{Changed: e.VNI != 1}, nil
		}),
		answering(control.CommandSetConfig, func(a *control.SetConfigArgs) (control.ReloadReport, error) {
			switch {
			case a.Value == "0":
				return control.ReloadReport{Errors: []control.ReloadProblem{
					{Text: "[common] " + a.Name + ": 0 is out of range 1..65535", Hint: "remove the line"}, {Text: "and\nmore"},
				}}, nil
			case a.Name == "holdtime":
				return control.ReloadReport{Changed: []control.OptionChange{{Name: a.Name, Old: "90", New: a.Value}}}, nil
			}
			return control.ReloadReport{}, &control.Error{Code: control.CodeBadArgument, Text: a.Name + " needs a restart"}
		}),
		answering(control.CommandSetDebug, func(a *control.SetDebugArgs) (control.ReloadReport, error) {
			if !a.On {
				return control.ReloadReport{}, nil
			}
			return control.ReloadReport{Changed: []control.OptionChange{{Name: "loglevel", Old: "info", New: "debug"}}}, nil
		}),
		answering(control.CommandReload, func(*struct{}) (control.ReloadReport, error) {
			return control.ReloadReport{
				Changed:  []control.OptionChange{{Name: "holdtime", Old: "90", New: "60"}, {Name: "vrf", New: "blue"}},
				Restart:  []control.OptionChange{{Name: "vxfld_port", Old: "10001", New: "10002"}},
				Warnings: []string{"/etc/vxsnd.conf:3: obsolete"},
			}, nil
		}),
	}
}

// cannedEvents are changes of all sorts.
func cannedEvents() []control.MembershipEvent {
	at := time.Date(2026, 11, 22, 10, 30, 0, 123000000, time.UTC)
	life := int64(90)
	return []control.MembershipEvent{
		{Time: at, Event: control.EventAdded, VNI: 10, Address: netip.MustParseAddr("10.2.1.1"), Source: "registration", Identifier: 1 << 63, Seconds: &life},
		{Time: at, Event: control.EventRefreshed, VNI: 10, Address: netip.MustParseAddr("10.2.1.1"), Source: "data", Seconds: &life},
		{Time: at.Add(time.Second), Event: control.EventAdded, VNI: 16777215, Address: netip.MustParseAddr("2001:db8::aaaa:bbbb:cccc:1"), Source: "operator"},
		{Time: at.Add(time.Second), Event: control.EventRemoved, Reason: "expired", VNI: 10, Address: netip.MustParseAddr("10.2.1.1"), Source: "data"},
		{Time: at.Add(time.Minute), Event: control.EventLost, Count: 12},
		{Time: at.Add(time.Minute), Event: control.EventLost},
	}
}

func cannedRegistrarEvents() []control.RegistrarEvent {
	at := time.Date(2026, 11, 22, 10, 30, 0, 123000000, time.UTC)
	return []control.RegistrarEvent{
		{Time: at, Event: control.EventRegistered, VNI: 10, Device: "vxlan10", Address: netip.MustParseAddr("10.2.1.1")},
		{Time: at, Event: control.EventSkipped, VNI: 31, Device: "vxlan31", Reason: "down: the device is down"},
		{Time: at.Add(time.Second), Event: control.EventMemberAdded, VNI: 10, Device: "vxlan10", Address: netip.MustParseAddr("10.2.1.2")},
		{Time: at.Add(time.Second), Event: control.EventLost, Count: 1},
	}
}

// captureEvents are cannedCapture, in two pieces with some that are missing
// between.
func captureEvents() []any {
	packets, lost := cannedCapture(), uint64(7)
	return []any{
		control.CaptureEvent{Start: &control.CaptureStart{Rate: 1000}}, control.CaptureEvent{Packets: packets[:2]},
		control.CaptureEvent{Lost: &lost}, control.CaptureEvent{Packets: packets[2:]},
	}
}

// TestSteeringScript runs the control programs as a user does who changes what
// daemons do, or watches them.
func TestSteeringScript(t *testing.T) {
	node := func(commands ...control.Command) func(path string) (func(), error) {
		return func(path string) (func(), error) {
			return serveControl(path, append(cannedCommands(cannedStatus(), nil, nil, 1), commands...))
		}
	}
	events, registrarEvents := cannedEvents(), cannedRegistrarEvents()
	runCtlScripts(t, "testdata/steering", map[string]func(path string) (func(), error){
		"node": node(append(cannedSteering(),
			streaming(control.CommandMonitor, nil, []control.MembershipEvent{}, events[:2], events[2:]),
			streaming(control.CommandCapture, nil, captureEvents()...), countingStats())...),
		"stopping": node(
			streaming(control.CommandMonitor, &control.Error{Code: control.CodeStopping, Text: "the daemon stops", Hint: "try again"}, []control.MembershipEvent{}),
			streaming(control.CommandCapture, &control.Error{Code: control.CodeStopping, Text: "the daemon stops", Hint: "try again"}, captureEvents()[:2]...)),
		"refusing": node(
			streaming(control.CommandCapture, &control.Error{Code: control.CodePermission, Text: "capture: no", Hint: "use sudo"})),
		"odd": node(streaming(control.CommandCapture, nil, captureEvents()[1]), streaming(control.CommandMonitor, nil, 7)),
		"registrar": func(path string) (func(), error) {
			return serveControl(path, append(append(cannedRegistrarCommands(cannedRegistrar(), nil, nil), cannedSteering()...),
				streaming(control.CommandMonitor, nil, []control.RegistrarEvent{}, registrarEvents)))
		},
	})
}
