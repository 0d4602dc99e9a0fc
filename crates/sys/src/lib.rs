//! The Linux system calls ocibuild needs, behind safe functions.
