// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// A Program is one of the daemons that read these files.
type Program uint8

// The programs, as bits: Option.Programs may name both.
const (
	Vxsnd Program = 1 << iota
	Vxrd
	Both = Vxsnd | Vxrd
)

// String returns the name that the program's own section has.
func (p Program) String() string {
	switch p {
	case Vxsnd:
		return "vxsnd"
	case Vxrd:
		return "vxrd"
	case Both:
		return "vxsnd and vxrd"
	}
	return fmt.Sprintf("program %d", uint8(p))
}

// DefaultFile returns the file that the program reads where no other is named.
func (p Program) DefaultFile() string {
	if p == Vxrd {
		return "/etc/vxrd.conf"
	}
	return "/etc/vxsnd.conf"
}

// A LogLevel is a threshold: lines below it are not written.
type LogLevel uint8

// The log levels, from all lines to the fewest.
const (
	LevelDebug LogLevel = iota
	LevelInfo
	LevelWarning
	LevelError
	LevelCritical
)

var levelNames = []string{"debug", "info", "warning", "error", "critical"}

// String returns the level's name in the configuration file.
func (l LogLevel) String() string { return enumName(levelNames, l) }

// A DestKind tells where log lines go.
type DestKind uint8

// The kinds of log destinations.
const (
	DestSyslog DestKind = iota
	DestStdout
	DestFile
)

// A LogDest is where log lines go. Path is set for DestFile only; it is
// absolute when it comes from Load.
type LogDest struct {
	Kind DestKind
	Path string
}

// String returns d in the syntax of the configuration file.
func (d LogDest) String() string {
	switch d.Kind {
	case DestSyslog:
		return "syslog"
	case DestStdout:
		return "stdout"
	default:
		return d.Path
	}
}

// A LogFormat is the form that log lines have.
type LogFormat uint8

// The forms of log lines: words and fields as people read them, or one JSON
// object per line.
const (
	FormatText LogFormat = iota
	FormatJSON
)

var formatNames = []string{"text", "json"}

// String returns the format's name in the configuration file.
func (f LogFormat) String() string { return enumName(formatNames, f) }

// Checksum says what stands in the UDP checksum of an IPv4 copy. IPv6 copies
// always carry a computed one (RFC 8200, section 8.1).
type Checksum uint8

// The choices for the UDP checksum of an IPv4 copy.
const (
	ChecksumZero Checksum = iota
	ChecksumCompute
)

var checksumNames = []string{"zero", "compute"}

// String returns the choice's name in the configuration file.
func (s Checksum) String() string { return enumName(checksumNames, s) }

// Learning says in which VNIs the sender of a data packet becomes a member.
type Learning uint8

// The learning modes: nowhere, in VNIs that have a registered or static
// member, in any VNI.
const (
	LearnOff Learning = iota
	LearnKnown
	LearnAny
)

var learningNames = []string{"off", "known", "any"}

// String returns the mode's name in the configuration file.
func (l Learning) String() string { return enumName(learningNames, l) }

// Oversize says what happens to a copy that is larger than the MTU of the
// outgoing device.
type Oversize uint8

// The choices for a copy larger than the MTU.
const (
	OversizeFragment Oversize = iota
	OversizeDrop
)

var oversizeNames = []string{"fragment", "drop"}

// String returns the choice's name in the configuration file.
func (o Oversize) String() string { return enumName(oversizeNames, o) }

// Engine says what floods.
type Engine uint8

// The choices of an engine.
const (
	// EngineAuto is tc where it works, else raw.
	EngineAuto Engine = iota
	EngineTC
	EngineRaw
)

var engineNames = []string{"auto", "tc", "raw"}

// String returns the choice's name in the configuration file.
func (e Engine) String() string { return enumName(engineNames, e) }

func enumName[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%T(%d)", v, uint8(v))
}

// enum is the kind of an option that takes one of a few words, in any case.
func enum[T ~uint8](names []string) kind[T] {
	return kind[T]{
		parse: func(s string) (T, error) {
			for i, n := range names {
				if strings.EqualFold(s, n) {
					return T(i), nil
				}
			}
			return 0, fmt.Errorf("%q is none of %s", s, strings.Join(names, ", "))
		},
		format: func(v T) string { return enumName(names, v) },
	}
}
