"""What people see: rich renderables of the values of other packages. No decisions are taken here."""
