package embedded

import "syscall"

// endWithParent has the kernel ask a child for a fast shutdown when the thread
// that started it ends, so that not even kill -9 leaves a server behind.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGINT }
