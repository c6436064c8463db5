/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers of a disk: sparse files and their maps. */
#include "host/vdisk/layer.h"
