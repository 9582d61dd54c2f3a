"""A bag and questions -> answers, a report and a bag of answers."""
