package main

import (
	"bytes"
	"syscall"
	"unsafe"
)

// watch tells when `..data` of a mounted folder is made anew. Nothing else counts (linkerd2 pkg/tls/creds_watcher.go, by fsnotify's Create, which is
// this event of the kernel).
func watch(folder string) (<-chan struct{}, error) {
	file, err := syscall.InotifyInit()
	if err != nil {
		return nil, err
	}
	if _, err := syscall.InotifyAddWatch(file, folder, syscall.IN_CREATE|syscall.IN_MOVED_TO); err != nil {
		return nil, err
	}
	changed := make(chan struct{}, 1)
	go func() {
		buffer := make([]byte, 4096)
		for {
			count, err := syscall.Read(file, buffer)
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				fatal(err)
			}
			for at := 0; at+syscall.SizeofInotifyEvent <= count; {
				event := (*syscall.InotifyEvent)(unsafe.Pointer(&buffer[at]))
				at += syscall.SizeofInotifyEvent
				name := buffer[at : at+int(event.Len)]
				at += int(event.Len)
				if string(bytes.TrimRight(name, "\x00")) == "..data" {
					changed <- struct{}{}
				}
			}
		}
	}()
	return changed, nil
}
