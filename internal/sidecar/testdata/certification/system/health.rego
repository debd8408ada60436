package system.health

default ready := false

ready if input.plugins_ready

live := true
