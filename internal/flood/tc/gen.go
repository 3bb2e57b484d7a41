// SPDX-License-Identifier: Apache-2.0

package tc

//go:generate go tool bpf2go -tags linux -target bpfel,bpfeb -type member -type dest -type device -type slot -type setting -type flow -type sample program flood.bpf.c -- -O2 -mcpu=v3 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -tags linux -target bpfel,bpfeb -no-global-types bounded flood.bpf.c -- -DBOUNDED=512 -O2 -mcpu=v3 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
