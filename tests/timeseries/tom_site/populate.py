"""Make the database of a new TOM, and give it a user and targets; run inside Django's shell environment."""

import json
import sys

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from guardian.shortcuts import assign_perm  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from tom_targets.models import Target  # noqa: E402

call_command("migrate", run_syncdb=True, verbosity=0)
user = User.objects.create_superuser("archiver", "archiver@example.org", sys.argv[1])
found = {"token": Token.objects.get_or_create(user=user)[0].key}
for name in sys.argv[2:]:
    target = Target.objects.create(name=name, type="SIDEREAL", ra=268.5, dec=-29.5)
    for permission in ("view", "change", "delete"):
        assign_perm(f"tom_targets.{permission}_target", user, target)
    found[name] = target.pk
sys.stdout.write(json.dumps(found) + "\n")
